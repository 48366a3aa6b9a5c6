//! The service, asked over sockets.

mod bodies;
mod deadlines;
mod ending;
mod help;
mod model;
mod program;
mod protocol;
mod queue;
