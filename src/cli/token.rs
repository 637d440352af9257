//! `jobwarden token`: the bearer tokens of a service, in its task directory.
//!
//! Works on the file that the service reads, so it needs no service that runs, and only the account
//! of the service can do it.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    access::{Audit, Entry, Role, TokenError, TokenFile, TokenRecord},
    config::{Effective, ServeFlags},
    job::Time,
};

use super::{
    Global, Outcome,
    failure::{DONE, Failure, INTERNAL, NOT_PERMITTED, TRY_AGAIN},
    output::{self, Cell, Colour, Printer},
    parse, serve,
};

const EXAMPLES: &str = "\
Examples:
  (umask 077; jobwarden token create --name ci --role submitter > ci.token)
  jobwarden --endpoint 127.0.0.1:7420 --token-file ci.token list
  jobwarden token list
  jobwarden token revoke ci

A token is shown once, when it is made; the service keeps a hash. One that cannot be printed is
revoked again. Making and revoking count at once,
without a restart. To rotate one, make another with the same name, hand it out, then revoke the old one
by its id.";

/// The arguments of `token`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(super) struct TokenCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a token and print it, this once
    Create {
        /// Who it stands for: its jobs belong to token:NAME
        #[arg(long)]
        name: String,
        /// What it may do: reader, submitter, operator or admin
        #[arg(long, value_parser = role)]
        role: Role,
        /// How long it is good, for example 30days, or `never`
        #[arg(long, value_parser = expiry, default_value = "never", value_name = "DURATION")]
        expires: Expiry,
    },
    /// List tokens, without the secrets
    #[command(visible_alias = "ls")]
    List,
    /// Remove a token by its id, or all with a name
    Revoke {
        /// The ids or names
        #[arg(required = true, value_name = "ID|NAME")]
        tokens: Vec<String>,
    },
}

/// How long a token is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expiry(Option<Duration>);

fn role(text: &str) -> Result<Role, String> {
    text.parse::<Role>().map_err(|error| error.to_string())
}

fn expiry(text: &str) -> Result<Expiry, String> {
    match text {
        "never" => Ok(Expiry(None)),
        text => match parse::duration(text)? {
            Duration::ZERO => Err("must be more than zero".to_owned()),
            span => Ok(Expiry(Some(span))),
        },
    }
}

/// Makes, lists or revokes tokens.
pub(super) fn run(global: &Global, command: TokenCommand) -> Outcome {
    let flags = ServeFlags { root: global.root.clone(), ..ServeFlags::default() };
    let effective = Effective::load(&flags).map_err(|errors| serve::from_mistakes(&errors))?;
    let file = TokenFile::of(&effective.config.root);
    let audit = Audit::of(&effective.config.root, effective.config.audit);
    let printer = Printer::new(global.json);
    match command.action {
        Action::Create { name, role, expires: Expiry(expires) } => {
            let (record, secret) = file.create(&name, role, expires).map_err(failure)?;
            audit.record(entry("token create", &record));
            let written = if printer.json {
                let mut shown = shown(&record);
                shown["token"] = secret.reveal().into();
                output::line(&shown.to_string())
            } else {
                output::line(secret.reveal())
            };
            written.map_err(|failure| take_back(&file, &audit, &record, failure))?;
            Ok(DONE)
        }
        Action::List => list(printer, &file.read().map_err(failure)?),
        Action::Revoke { tokens } => {
            for token in &tokens {
                let revoked = file.revoke(token).map_err(failure)?;
                for record in &revoked {
                    audit.record(entry("token revoke", record));
                }
                list(printer, &revoked)?;
            }
            Ok(DONE)
        }
    }
}

/// Revokes a token that could not be printed: nobody has it, and it would be good all the same.
fn take_back(file: &TokenFile, audit: &Audit, record: &TokenRecord, unprinted: Failure) -> Failure {
    let id = &record.id;
    let (text, detail) = match file.revoke(id) {
        Ok(_) => {
            audit.record(entry("token revoke", record));
            (format!("the token {id} could not be printed and has been revoked again"), None)
        }
        Err(error) => {
            let text = format!("the token {id} could not be printed, and is still good");
            (text, Some(format!("it could not be revoked: {error}")))
        }
    };
    let mut told = Failure::new(unprinted.exit, text);
    // A closed pipe has no words of its own.
    told.details.extend(Some(unprinted.text).filter(|text| !text.is_empty()));
    if let Some(detail) = detail {
        told = told.detail(detail).hint(format!("`jobwarden token revoke {id}`"));
    }
    told
}

/// What the audit record tells of a change of tokens.
fn entry(call: &str, record: &TokenRecord) -> Entry {
    let detail = format!("{} {} {}", record.id, record.name, record.role);
    Entry::by_account("command line", call).with_detail(&detail)
}

fn list(printer: Printer, records: &[TokenRecord]) -> Outcome {
    if printer.json {
        for record in records {
            output::line(&shown(record).to_string())?;
        }
        return Ok(DONE);
    }
    let now = Time::from(std::time::SystemTime::now());
    let heading = ["ID", "NAME", "ROLE", "CREATED", "EXPIRES"];
    let mut rows = vec![heading.map(|name| Cell::new(name, Colour::Bold)).to_vec()];
    rows.extend(records.iter().map(|record| {
        let expires = record.expires.map_or("never".to_owned(), |time| time.to_string());
        let colour = if record.is_expired(now) { Colour::Red } else { Colour::Plain };
        vec![
            Cell::plain(&record.id),
            Cell::plain(&record.name),
            Cell::plain(record.role.name()),
            Cell::plain(record.created.to_string()),
            Cell::new(expires, colour),
        ]
    }));
    printer.table(&rows)?;
    Ok(DONE)
}

fn shown(record: &TokenRecord) -> serde_json::Value {
    json!({
        "id": record.id,
        "name": record.name,
        "role": record.role.name(),
        "created": record.created.to_string(),
        "expires": record.expires.map(|time| time.to_string()),
    })
}

fn failure(error: TokenError) -> Failure {
    let text = error.to_string();
    match error {
        TokenError::Name | TokenError::TooMany | TokenError::Unknown(_) => Failure::usage(text),
        TokenError::NotOwner { .. } => Failure::new(NOT_PERMITTED, text),
        TokenError::Busy => Failure::new(TRY_AGAIN, text),
        TokenError::Corrupt { .. } => Failure::new(INTERNAL, text),
        TokenError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            Failure::new(NOT_PERMITTED, text)
                .hint("run it as the account of the service, with the --root of the service")
        }
        TokenError::Io { source, .. } => Failure::new(INTERNAL, text).detail(source.to_string()),
    }
}
