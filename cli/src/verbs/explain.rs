//! `explain CODE`.

use serde_json::json;

use crate::{
    args::Format,
    codes,
    exit::{Exit, Refusal},
    output,
};

pub fn run(code: &str, format: Format) -> anyhow::Result<Exit> {
    let wanted = code.to_ascii_uppercase();
    let Some(page) = codes::all().into_iter().find(|c| c.code == wanted) else {
        return Err(Refusal::error(
            Exit::Usage,
            format!("`{code}` is not a code of this program; codes look like WB-014"),
        ));
    };
    let value =
        json!({"code": page.code, "title": page.title, "cause": page.cause, "fix": page.fix});
    output::print(format, &value, |_| {
        format!(
            "{}: {}\n\nCause: {}\nFix:   {}",
            page.code, page.title, page.cause, page.fix
        )
    })?;
    Ok(Exit::Ok)
}
