//! OpenAPI schemas of words that records define. They exist for the document alone: the values themselves are the
//! records' own types, and each list below stops compiling when a record gains a word.

use burstflare_ports::machine::{Enforcement, Isolation};
use burstflare_ports::record::{
    BuildState, Goal, ReleaseCause, Role, Scope, SessionState, Sharing, SnapshotKind, SnapshotState,
    StopCause, TicketPurpose, VersionState, Visibility,
};
use burstflare_ports::wire::{MetricsSource, Reason};

use burstflare_ports::wire::files::{Cut, FileKind};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

macro_rules! words {
    ($($schema:ident is $record:ident named $name:literal: $($variant:ident)+;)+) => {$(
        #[doc = concat!("The words of a ", $name, ".")]
        #[derive(Debug)]
        pub struct $schema;

        impl PartialSchema for $schema {
            fn schema() -> RefOr<Schema> {
                let words = [$($record::$variant),+].map(|word| serde_json::to_value(word).unwrap_or_default());
                ObjectBuilder::new()
                    .schema_type(SchemaType::Type(Type::String))
                    .enum_values(Some(words))
                    .into()
            }
        }
        impl ToSchema for $schema {
            fn name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
        }
        const _: fn($record) = |word| match word { $($record::$variant => (),)+ };
    )+};
}

words! {
    BuildStateWord is BuildState named "BuildState": Queued Running Succeeded Failed Cancelled;
    CutWord is Cut named "SearchCut": Hits Time Entries Depth;
    EnforcementWord is Enforcement named "Enforcement": Enforced Watched None;
    FileKindWord is FileKind named "FileKind": File Folder Link Other;
    GoalWord is Goal named "SessionGoal": Run Sleep Delete;
    IsolationWord is Isolation named "Isolation": Sandbox Container Process;
    MetricsSourceWord is MetricsSource named "MetricsSource": Cgroup Processes;
    PurposeWord is TicketPurpose named "TicketPurpose": Ssh Terminal Exec Preview Forward;
    ReleaseCauseWord is ReleaseCause named "ReleaseCause": Promote Rollback;
    RoleWord is Role named "Role": Viewer Member Admin Owner;
    ScopeWord is Scope named "Scope": Read Write Attach;
    SessionStateWord is SessionState named "SessionState":
        Created Starting Running Stopping Sleeping Failed Deleting;
    SharingWord is Sharing named "Sharing": Private Workspace;
    SnapshotKindWord is SnapshotKind named "SnapshotKind": Auto Manual PreRestore;
    ReasonWord is Reason named "ActivityReason":
        Start TerminalInput SshInput Preview Exec Files Job Cpu Other;
    SnapshotStateWord is SnapshotState named "SnapshotState": Pending Complete Failed;
    StopCauseWord is StopCause named "StopCause": Person Idle Server Machine;
    VisibilityWord is Visibility named "Visibility": Private Workspace Public;
    VersionStateWord is VersionState named "VersionState": Draft Building Ready Failed;
}
