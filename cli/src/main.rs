//! The binary `whimbrel`: arguments, configuration, verbs, output, exit codes. It parses, calls and
//! prints; what a verb does lives in the crates below.

mod args;
mod bar;
mod codes;
mod config;
mod exit;
mod output;
mod progress;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version go to stdout and are no error.
            let exit = if error.use_stderr() {
                exit::Exit::Usage
            } else {
                exit::Exit::Ok
            };
            return match error.print() {
                Ok(()) => exit.into(),
                Err(_) => exit::Exit::Failed.into(),
            };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&anyhow::Error::from(error)).into(),
    };
    let done = runtime.block_on(verbs::run(args));
    // Blocking threads of a client that is still closing must not hold the process.
    runtime.shutdown_background();
    match done {
        Ok(exit) => exit.into(),
        Err(error) => exit::report(&error).into(),
    }
}
