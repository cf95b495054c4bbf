//! What every store must do. `store_conformance!(sqlite, factory)` makes a module with one named test per function here;
//! `factory` is an `async fn() -> (SharedStore, G)` that gives a fresh, empty store and a guard that keeps it alive.
//!
//! To add a case: one function, and its name in the list below.

pub mod audit;
pub mod blobs;
pub mod budgets;
pub mod config;
pub mod engines;
pub mod events;
pub mod guards;
pub mod idempotency;
pub mod keyring;
pub mod keys;
pub mod lists;
pub mod pool;
pub mod pool_members;
pub mod pool_order;
pub mod projects;
pub mod retention;
pub mod runs;

/// Makes a module of tests, one per case.
#[macro_export]
macro_rules! store_conformance {
    ($module:ident, $factory:path) => {
        mod $module {
            use super::*;

            $crate::__store_cases!(__store_tests[$factory]);
        }
    };
}

/// The list of cases, handed to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __store_cases {
    ($then:ident $args:tt) => {
        $crate::$then! { $args
            audit {
                rows_follow_the_head
                one_of_racing_appends_wins
                rows_are_listed_newest_first
            }
            idempotency {
                the_first_answer_stays
                a_try_that_failed_or_was_lost_makes_room
                one_of_racing_tries_is_the_first
                the_old_is_swept
            }
            budgets {
                c17_107_unused_slices_come_back
                run_and_stage_bind_together
                what_is_overspent_is_gone
                a_stale_claim_draws_nothing
                c17_107_ten_racing_jobs_share_one_limit
                c17_56_what_is_told_by_id_counts_once
            }
            config {
                a_change_needs_the_revision_that_it_was_made_from
                entries_are_ordered_and_replaced_by_kind_owner_and_name
                one_writer_wins_a_race
            }
            engines {
                only_runs_of_dead_engines_are_adopted
                a_run_has_one_heir
                ended_runs_are_left_alone
            }
            events {
                numbers_rise_without_gaps_from_one
                readers_see_a_prefix_while_writers_append
                after_and_limit_cut_anywhere
                events_of_one_kind_are_those_of_it
                any_text_reads_back
                large_batches_read_back
            }
            guards {
                a_live_claim_lets_writes_through
                a_wrong_token_job_or_run_is_stale
                an_expired_claim_is_stale_unless_taken_back
                a_refused_write_leaves_nothing
                pieces_are_written_once_and_in_order
                a_new_claim_starts_its_streams_anew
            }
            keyring {
                the_first_key_of_a_version_stays
                the_first_server_key_of_a_name_stays
            }
            keys {
                a_key_is_found_by_its_hash_alone
                a_key_without_its_project_opens_nothing
                lists_are_scoped_and_paged_newest_first
                a_revoked_key_is_gone_at_once
                a_use_is_noted_once_a_minute_by_racing_callers
            }
            lists {
                newest_first_and_filtered
                pages_neither_repeat_nor_lose_while_runs_are_added
                other_projects_are_out_of_scope
                live_runs_are_counted_up_to_the_limit
            }
            pool {
                the_lowest_place_goes_first
                only_fitting_jobs_are_claimed
                no_job_is_claimed_twice_by_racing_workers
                a_released_job_keeps_its_place_and_counts_its_claims
                changes_that_a_job_cannot_take_have_no_effect
                leases_are_renewed_by_their_holder_alone
                expired_leases_are_found_longest_first
                a_new_life_finds_the_jobs_of_the_former_one
                waiting_needs_and_counts_follow_the_line
                a_cancel_reaches_the_holder_with_its_renewal
                what_was_decided_at_the_start_goes_with_the_claim
            }
            pool_order {
                a_project_that_was_away_goes_next
                c17_61_another_projects_single_job_goes_next_and_limits_hold
                projects_take_turns_job_by_job
                held_jobs_come_into_line_oldest_first_when_one_ends
                a_lost_job_keeps_its_place_and_lets_nobody_jump_the_line
                a_limit_counts_from_the_next_job_on
                a_job_that_ends_as_it_comes_tells_its_limit_and_keeps_its_report
                held_jobs_of_one_moment_come_by_stage_and_area
                a_worker_of_one_project_takes_its_jobs_alone
                jobs_that_come_into_line_are_told
            }
            pool_members {
                a_code_is_used_once_by_racing_callers
                expired_and_foreign_codes_write_nothing
                old_codes_are_dropped_when_one_is_added
                an_id_that_is_taken_uses_up_no_code
                workers_read_back_and_drain
                an_orchestrator_takes_its_codes_and_workers_along
                what_was_heard_is_the_latest_word
                changes_are_told_to_watchers
            }
            projects {
                ids_and_slugs_are_unique
                one_in_use_is_not_deleted
            }
            retention {
                what_ended_before_the_cutoff_is_due
                a_run_is_emptied_in_steps_and_stays
                what_is_not_due_is_not_emptied
                ended_jobs_stay_as_long_as_the_logs_of_their_run
            }
            runs {
                a_run_reads_back_as_created
                an_id_that_is_taken_is_corrupt
                a_commit_is_one_revision
                one_of_many_racing_commits_wins
                neighbours_of_a_refused_write_go_through
                large_definitions_and_many_stages_read_back
                artifacts_are_replaced_by_stage_substage_and_name
                usage_is_added_up
                writes_are_told_to_watchers
                a_closed_store_refuses
            }
        }
    };
}

/// One test per case.
#[doc(hidden)]
#[macro_export]
macro_rules! __store_tests {
    ([$factory:path] $($domain:ident { $($case:ident)+ })+) => {
        $(mod $domain {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let (store, _alive) = $factory().await;
                $crate::testing::conformance::store::$domain::$case(store).await;
            })+
        })+
    };
}

/// The names alone.
#[doc(hidden)]
#[macro_export]
macro_rules! __store_names {
    ([] $($domain:ident { $($case:ident)+ })+) => {
        &[$($(concat!(stringify!($domain), "::", stringify!($case)),)+)+]
    };
}

/// The names of all cases.
pub const STORE_CASES: &[&str] = crate::__store_cases!(__store_names []);
