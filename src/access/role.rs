//! Roles, and how far each may reach with each call.

use std::{fmt, str::FromStr};

/// What a principal may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Sees every job and changes nothing.
    Reader,
    /// Submits jobs; sees and controls its own. Other jobs do not exist for it.
    Submitter,
    /// Submits jobs, sees and controls every job, and deletes its own.
    Operator,
    /// Does everything with every job.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Reader, Self::Submitter, Self::Operator, Self::Admin];

    /// The name that people write.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Submitter => "submitter",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// How far a caller with this role may reach with a call.
    pub fn reach(self, call: Call) -> Reach {
        match (self, call.kind()) {
            (Self::Reader | Self::Operator | Self::Admin, Kind::See)
            | (Self::Operator | Self::Admin, Kind::Submit | Kind::Control)
            | (Self::Admin, Kind::Remove) => Reach::All,
            (Self::Submitter, Kind::See | Kind::Submit | Kind::Control | Kind::Remove)
            | (Self::Operator, Kind::Remove) => Reach::Own,
            (Self::Reader, Kind::Submit | Kind::Control | Kind::Remove) => Reach::Nothing,
        }
    }

    /// The least of the roles that may make a call at all.
    pub fn least_for(call: Call) -> Self {
        let may = |role: &Self| role.reach(call) != Reach::Nothing;
        Self::ALL.into_iter().find(may).unwrap_or(Self::Admin)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A text is the name of no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be reader, submitter, operator or admin")]
pub struct NoRole;

impl FromStr for Role {
    type Err = NoRole;

    fn from_str(text: &str) -> Result<Self, NoRole> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or(NoRole)
    }
}

/// Whose jobs a call may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nobody's: the call is refused.
    Nothing,
    /// Those that the caller owns.
    Own,
    /// Everybody's.
    All,
}

/// A call of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Accepts a job.
    Exec,
    /// Shows a job.
    Status,
    /// Lists jobs.
    List,
    /// Waits for a job.
    Wait,
    /// Waits for several jobs.
    WaitMany,
    /// Sends a signal.
    Kill,
    /// Asks a job to stop.
    Cancel,
    /// Removes a job.
    Delete,
    /// Accepts the spec of an old job again.
    Rerun,
    /// Changes labels.
    UpdateLabels,
    /// Changes the run time limit.
    UpdateTimeout,
    /// Streams what happens.
    WatchEvents,
    /// Streams output.
    TailLog,
    /// Tells of the service.
    GetServerInfo,
    /// Describes the service.
    Reflection,
}

/// What calls have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    See,
    Submit,
    Control,
    Remove,
}

impl Call {
    /// Every call.
    pub const ALL: [Self; 15] = [
        Self::Exec,
        Self::Status,
        Self::List,
        Self::Wait,
        Self::WaitMany,
        Self::Kill,
        Self::Cancel,
        Self::Delete,
        Self::Rerun,
        Self::UpdateLabels,
        Self::UpdateTimeout,
        Self::WatchEvents,
        Self::TailLog,
        Self::GetServerInfo,
        Self::Reflection,
    ];

    /// The name, as in the proto.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exec => "Exec",
            Self::Status => "Status",
            Self::List => "List",
            Self::Wait => "Wait",
            Self::WaitMany => "WaitMany",
            Self::Kill => "Kill",
            Self::Cancel => "Cancel",
            Self::Delete => "Delete",
            Self::Rerun => "Rerun",
            Self::UpdateLabels => "UpdateLabels",
            Self::UpdateTimeout => "UpdateTimeout",
            Self::WatchEvents => "WatchEvents",
            Self::TailLog => "TailLog",
            Self::GetServerInfo => "GetServerInfo",
            Self::Reflection => "Reflection",
        }
    }

    /// Whether it changes something.
    pub fn is_change(self) -> bool {
        self.kind() != Kind::See
    }

    fn kind(self) -> Kind {
        match self {
            Self::Exec | Self::Rerun => Kind::Submit,
            Self::Status
            | Self::List
            | Self::Wait
            | Self::WaitMany
            | Self::WatchEvents
            | Self::TailLog
            | Self::GetServerInfo
            | Self::Reflection => Kind::See,
            Self::Kill | Self::Cancel | Self::UpdateLabels | Self::UpdateTimeout => Kind::Control,
            Self::Delete => Kind::Remove,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_known_by_its_name_alone() {
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
        }
        for wrong in ["", "Admin", "root", "admin "] {
            assert_eq!(wrong.parse::<Role>(), Err(NoRole));
        }
    }

    #[test]
    fn each_role_reaches_as_far_as_docs_security_says() {
        use Reach::{All, Nothing, Own};
        // Written as a table of its own: reader, submitter, operator, admin.
        let table = [
            (Call::Exec, [Nothing, Own, All, All]),
            (Call::Status, [All, Own, All, All]),
            (Call::List, [All, Own, All, All]),
            (Call::Wait, [All, Own, All, All]),
            (Call::WaitMany, [All, Own, All, All]),
            (Call::Kill, [Nothing, Own, All, All]),
            (Call::Cancel, [Nothing, Own, All, All]),
            (Call::Delete, [Nothing, Own, Own, All]),
            (Call::Rerun, [Nothing, Own, All, All]),
            (Call::UpdateLabels, [Nothing, Own, All, All]),
            (Call::UpdateTimeout, [Nothing, Own, All, All]),
            (Call::WatchEvents, [All, Own, All, All]),
            (Call::TailLog, [All, Own, All, All]),
            (Call::GetServerInfo, [All, Own, All, All]),
            (Call::Reflection, [All, Own, All, All]),
        ];
        assert_eq!(table.map(|(call, _)| call), Call::ALL);
        for (call, expected) in table {
            assert_eq!(Role::ALL.map(|role| role.reach(call)), expected, "{}", call.name());
        }
    }
}
