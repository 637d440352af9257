//! Runs commands as durable jobs behind a gRPC service.

/// The generated messages, clients and servers of `jobwarden.v1`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::pedantic, clippy::all)]
pub mod api {
    tonic::include_proto!("jobwarden.v1");

    /// The descriptors of `jobwarden.v1` and all it imports, as an encoded `FileDescriptorSet`.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/jobwarden_descriptor.bin"));
}

#[allow(unsafe_code, reason = "every system call of the project is in this module")]
pub mod sys;

pub mod job;

pub mod store;

pub mod access;

pub mod launch_message;

pub mod supervisor;

pub mod launcher;

pub mod catalog;

pub mod launch;

pub mod queue;

pub mod watcher;

pub mod recover;

pub mod operations;

pub mod service;

pub mod client;

pub mod terminal;

pub mod config;

pub mod server;

pub mod cli;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

#[cfg(test)]
mod model;
