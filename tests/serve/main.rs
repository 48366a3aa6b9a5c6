//! The service, asked over sockets.

mod bodies;
mod help;
mod model;
