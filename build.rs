//! Compiles the proto files with protox (no `protoc` needed) into Rust code and a descriptor set.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const PROTO_FILES: [&str; 2] =
    ["proto/jobwarden/v1/job.proto", "proto/jobwarden/v1/job_service.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    let files = compiler.open_files(PROTO_FILES)?.file_descriptor_set();

    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    // Reflection and the JSON form of replies are both served from this set.
    fs::write(out_dir.join("jobwarden_descriptor.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".jobwarden.v1.LogChunk").compile_fds(files)?;
    Ok(())
}
