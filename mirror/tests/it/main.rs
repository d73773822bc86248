mod kafka;
mod replica;
mod translated;
