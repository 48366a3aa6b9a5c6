//! The program and its library as they are used: one module a subject.

#![recursion_limit = "256"]

mod anywhere;
mod baselines;
mod checkpoints;
mod cli;
mod clip_score;
mod common;
mod convert;
mod data;
mod data_folders;
mod data_rows;
mod decoding;
mod documented;
mod engine;
mod evaluate;
mod evaluate_join;
mod every_entry;
mod fetch;
mod fetch_together;
mod hub;
mod hub_server;
mod image_forms;
mod infer;
mod inputs;
mod mangled;
mod messages;
mod parity;
mod preprocess;
mod pretrain_sample;
mod probe;
mod probe_parity;
mod report;
mod retrieval;
mod runs;
mod serve;
mod split_lists;
mod streams;
mod together;
mod train;
mod train_bad_input;
mod train_devices;
mod unreadable;
mod wgpu;
