//! What holds for any sequence of commands, and what was written must be read for ever.

mod commands;
mod golden;
mod memory;
mod model;
mod replay;
