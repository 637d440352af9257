//! Who may do what: who a caller is, the roles, the tokens.
//!
//! Nothing here knows the wire or a job's folder: a call is a name, a caller is what its connection
//! and its token say, and the answer is how far it may reach.

mod audit;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod gate;
mod peer;
mod role;
#[cfg(test)]
mod tests;
mod token;
mod token_file;

pub use audit::{Audit, AuditLimits, AuditScope, Entry};
pub use gate::{
    CertificateRule, Denied, Gate, Identity, NameKind, PRINCIPAL_BYTES_MAX, Rules, UnixUser,
};
pub use peer::{Admission, Certificate, OPEN_CALLS_MAX, OpenCall, Peer, Place, Received};
pub use role::{Call, NoRole, Reach, Role};
pub use token::{NAME_BYTES_MAX, Secret, TokenRecord, is_token_name};
pub use token_file::{FOLDER, TOKENS_MAX, TokenError, TokenFile, TokenTable, Version};
