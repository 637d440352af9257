//! Who may do what: who a caller is, the roles, the tokens.
//!
//! Nothing here knows the wire or a job's folder: a call is a name, a caller is what its connection
//! and its token say, and the answer is how far it may reach.

mod peer;

pub use peer::{Admission, Certificate, Peer, Place};
