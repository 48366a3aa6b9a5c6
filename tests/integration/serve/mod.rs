//! The service, asked over sockets.

mod bodies;
mod deadlines;
mod ending;
mod help;
mod model;
#[cfg(unix)]
mod page;
mod program;
mod protocol;
mod queue;
