mod accounts;
mod builds;
mod commit;
mod guards;
mod journal;
mod outbox;
mod packs;
mod previews;
mod races;
mod releases;
mod secrets;
mod sessions;
mod snapshots;
mod templates;
mod tenants;
mod workspaces;

use super::{Finding, Verdict, cases, ensure, same, world};
use crate::store::{Page, Store};

cases! {
    /// The cases of records.
    STORE_CASES: dyn Store, tests store_tests, dollar $,
    {
        commit::{
            every_record_is_read_back_as_it_was_put,
            a_record_is_written_over_by_its_next_revision,
            an_empty_change_is_no_error,
            a_put_without_its_guard_is_invalid,
            a_revision_that_jumps_is_invalid,
            a_record_of_the_other_family_is_invalid,
            a_record_of_another_workspace_is_invalid,
            more_guards_than_the_limit_are_invalid,
            as_many_guards_as_the_limit_hold,
            a_spend_without_its_guard_is_invalid,
            a_record_changed_twice_is_invalid,
            an_event_over_its_limit_is_invalid,
            a_directory_commit_has_no_events_or_counters,
            records_without_revision_are_only_ever_inserted,
            a_secret_exists_once,
            a_missing_parent_is_a_conflict,
            a_parent_in_use_is_not_deleted,
            deleting_what_is_not_there_is_no_error,
            the_store_answers_a_ping,
        }
        guards::{
            a_stale_revision_is_refused,
            a_revision_of_what_is_not_there_is_refused,
            absent_refuses_what_is_there,
            free_refuses_a_taken_address,
            free_refuses_a_taken_workspace_name,
            free_refuses_a_taken_template_name,
            free_refuses_a_taken_version_label,
            free_refuses_a_taken_session_name,
            a_freed_name_can_be_taken_again,
            the_first_user_is_the_first,
            unspent_refuses_what_is_spent,
            unspent_refuses_what_has_expired,
            unspent_refuses_what_is_not_there,
            below_refuses_past_the_limit,
            below_takes_any_limit,
            a_counter_never_goes_below_zero,
            counters_are_apart,
            guards_see_the_state_before_the_change,
            any_failing_guard_rolls_everything_back,
            a_failing_guard_behind_others_is_the_one_that_is_named,
        }
        races::{
            of_two_writers_of_one_revision_one_wins,
            of_many_takers_of_a_name_one_wins,
            of_many_spenders_of_a_grant_one_wins,
            of_many_spenders_of_a_ticket_one_wins,
            a_quota_of_one_is_taken_once,
            a_quota_is_never_exceeded,
            no_bump_is_lost,
            of_a_lease_and_a_sentence_one_wins,
            of_completing_and_deleting_one_wins,
            of_a_revival_and_an_end_one_wins,
            of_many_takers_one_begins,
        }
        tenants::{
            another_workspaces_ids_are_not_found,
            another_workspaces_lists_are_empty,
            a_put_never_touches_another_tenants_row,
            a_delete_never_touches_another_tenants_row,
            a_spend_never_touches_another_tenants_ticket,
            another_users_token_is_not_found,
        }
        accounts::{
            principal_reads_everything_about_a_bearer,
            principal_of_a_removed_member_has_no_membership,
            principal_of_an_unknown_secret_is_none,
            principal_shows_revocation_and_expiry_as_they_are,
            a_user_is_found_by_address,
            a_grant_is_found_whatever_its_state,
            tokens_are_personal_unrevoked_and_newest_first,
            any_user_is_true_behind_the_first,
        }
        workspaces::{
            a_workspace_is_found_by_name,
            members_are_ordered_by_user_in_pages,
            workspaces_of_a_user_are_newest_first,
            every_workspace_comes_once_and_the_oldest_first,
            invites_are_the_unspent_ones,
        }
        templates::{
            templates_are_newest_first_in_pages,
            a_template_is_found_by_name,
            versions_are_newest_first_in_pages,
            a_version_is_found_by_label,
            deleting_a_template_forgets_its_counter,
        }
        builds::{
            builds_are_newest_first_in_pages,
            log_chunks_begin_with_the_wanted_byte,
            log_chunks_are_apart_by_attempt,
            overdue_builds_wait_or_run_past_their_deadline,
            deleting_a_build_takes_its_log_along,
        }
        releases::{
            releases_are_newest_first_by_workspace_and_template,
            a_release_number_exists_once,
        }
        sessions::{
            sessions_are_newest_first_in_pages,
            a_session_is_found_by_name,
            restless_sessions_have_a_machine_or_a_way_to_go,
            a_ticket_is_found_by_its_secret_alone,
            deleting_a_session_takes_tickets_and_snapshots_along,
        }
        previews::{
            a_session_is_found_by_its_host,
            port_settings_are_ordered_by_port_in_pages,
            a_port_setting_is_written_over_and_removed,
            deleting_a_session_takes_its_port_settings_along,
        }
        snapshots::{
            snapshots_are_newest_first_in_pages,
            a_label_finds_its_snapshots,
            snapshots_are_due_from_their_moment_on,
            a_blob_is_named_until_its_last_snapshot_goes,
            deleting_a_session_forgets_its_counter,
        }
        packs::{
            packs_are_read_back_and_newest_first,
            a_snapshot_can_name_what_another_names,
            a_named_pack_is_not_deleted,
            a_naming_needs_both_and_exists_once,
            packed_counts_live_packs,
            unreferenced_refuses_what_is_named,
            the_sweep_finds_what_nothing_names,
            a_session_has_one_pending_snapshot,
        }
        secrets::{
            secrets_are_read_back_by_name_and_newest_first,
            a_secrets_name_is_taken_once_in_a_workspace,
            keys_of_other_masters_are_found,
        }
        journal::{
            events_come_in_order_behind_a_number,
            the_last_event_is_the_newest_of_its_workspace,
            audit_lines_are_newest_first_before_a_number,
            directory_audit_is_not_among_workspace_audit,
        }
        outbox::{
            an_effect_is_due_from_its_moment_on,
            due_effects_come_longest_due_first,
            a_settled_effect_is_gone,
            a_postponed_effect_counts_its_attempts,
            directory_effects_have_no_workspace,
            settling_is_scoped,
            an_effect_waits_until_settled,
            expired_secrets_are_swept_in_bounded_steps,
        }
    }
}

/// Reads all pages of a list, three items at a time, and checks that `more` tells the truth.
async fn all_pages<T, C, F>(
    mut read: impl FnMut(Option<C>) -> F + Send,
    key: fn(&T) -> C,
) -> Result<Vec<T>, Finding>
where
    T: Send,
    C: Send,
    F: Future<Output = crate::error::PortResult<Page<T>>> + Send,
{
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = read(after.take()).await?;
        ensure!(page.items.len() <= STEP, "a page of {} items where {STEP} were asked for", page.items.len());
        ensure!(!page.more || page.items.len() == STEP, "a short page says that there is more");
        after = page.items.last().map(key);
        all.extend(page.items);
        if !page.more {
            return Ok(all);
        }
        ensure!(all.len() < 10_000, "the list does not end");
    }
}

/// The page size of [`all_pages`].
const STEP: usize = 3;
