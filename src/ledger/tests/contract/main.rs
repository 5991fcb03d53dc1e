//! What every store promises, tested over the trait: a store is added by a [`Backend`] and one line at the end.

mod admin;
mod changes;
mod clocks;
#[path = "../postgres/cluster.rs"]
#[allow(dead_code, reason = "other suites stop and kill it")]
mod cluster;
mod denials;
mod gate;
mod holds;
mod models;
mod owners;
mod plans;
mod postgres;
mod prices;
mod random;
mod rates;
mod reading;
mod replicas;
mod reports;
#[path = "../tables/rows.rs"]
mod rows;
mod sessions;
mod sqlite;
mod standings;
mod tags;
mod thresholds;
mod windows;
mod world;
mod zones;

/// One test for each scenario, over one backend.
macro_rules! contract {
    ($backend:ty: $($module:ident :: {$($scenario:ident),+ $(,)?})+) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                let mut world = $crate::world::World::<$backend>::new().await;
                $crate::$module::$scenario(&mut world).await;
                world.check().await;
            }
        )+)+
    };
}

/// Every scenario over one backend.
macro_rules! every_scenario {
    ($backend:ty) => {
        contract! { $backend:
            holds::{
                a_hold_charges_every_account_or_none,
                the_same_hold_gets_the_same_answer,
                another_request_with_the_same_id_is_an_error_that_changes_nothing,
                reports_that_come_along_are_applied_first,
                racing_holds_admit_exactly_what_fits,
                the_dearest_fallback_sizes_the_hold,
                a_restart_keeps_everything,
            }
            denials::{
                each_refusal_has_its_name,
                the_outermost_limit_that_refuses_is_named,
                a_limit_that_observes_refuses_nothing,
                a_decision_on_an_old_policy_is_made_again,
                look_ups_say_what_is_exhausted,
                every_account_that_refuses_is_named_with_its_amounts,
            }
            reports::{
                a_settle_posts_the_cost_and_releases_the_hold,
                a_settle_beyond_its_hold_is_posted_in_full_and_closes_the_account,
                an_unknown_price_costs_the_dearer_and_is_marked,
                a_hold_ends_once,
                a_void_before_its_hold_refuses_it,
                exact_usage_resizes_the_hold,
                a_silent_hold_expires_in_full_and_a_late_settle_corrects_it,
                nothing_expires_right_after_a_start,
                strangers_cannot_end_a_hold,
                an_amount_beyond_all_amounts_is_refused,
                reports_that_came_along_with_a_hold_that_does_not_fit_are_applied_once,
                a_correction_posts_the_difference_and_edits_nothing,
                a_hold_is_settled_by_the_prices_that_it_was_made_by,
                an_overrun_is_counted_and_shown,
            }
            prices::{
                what_an_operator_says_of_prices_counts_for_the_next_hold,
                open_holds_end_by_the_prices_that_they_were_made_by,
                the_same_again_changes_nothing_and_nothing_clears_it,
                a_fault_is_named_and_changes_nothing,
                each_operator_has_its_own_word,
                prices_survive_a_restart_and_another_book,
                a_book_that_does_not_fit_is_held_back,
            }
            standings::{
                every_message_has_one_outcome_in_every_state,
            }
            windows::{
                a_window_rolls_exactly_at_its_boundary,
                a_hold_settles_in_the_window_of_its_making,
                a_new_limit_counts_the_past_of_its_window,
                a_limit_that_comes_back_counts_what_it_missed,
                time_never_moves_a_window_back,
            }
            changes::{
                a_limit_changes_for_the_next_hold,
                a_new_limit_counts_days_of_past,
                a_new_rolling_limit_frees_its_past_bucket_by_bucket,
                a_window_that_moves_counts_what_lies_in_it,
                a_key_that_moves_takes_no_hold_along,
                what_is_blocked_runs_on_and_what_is_remade_has_spent,
                a_correction_reaches_limits_that_came_later,
            }
            clocks::{
                a_start_judges_the_clock_by_the_journal,
                a_clock_that_goes_back_opens_nothing_twice,
                a_clock_that_stands_still_opens_nothing,
                a_year_that_was_accepted_is_not_taken_back,
                a_clock_that_jumps_gives_no_hold_back,
                rates_refill_after_the_clock_was_set_back,
                holds_expire_after_the_clock_was_set_back,
                accounts_that_spent_nothing_ahead_go_by_the_clock,
                a_clock_that_was_accepted_is_not_asked_for_again,
                a_limit_added_ahead_of_the_clock_counts_the_present_window,
            }
            models::{
                an_alias_shows_what_its_model_spent,
                a_limit_of_a_model_counts_only_that_model,
                an_alias_names_the_same_model,
                the_model_that_was_asked_for_is_charged,
                a_new_limit_of_a_model_counts_its_past,
                a_soft_limit_refuses_nothing,
                an_observing_limit_says_what_it_would_have,
                an_installation_that_observes_refuses_no_money,
            }
            rates::{
                each_rate_binds_on_each_account,
                a_rate_of_a_model_counts_only_that_model,
                a_hold_takes_all_of_its_rates_and_money_or_nothing,
                tokens_are_corrected_at_the_end,
                tokens_of_an_expired_hold_are_corrected_when_it_settles,
                a_request_runs_until_it_ends_and_ends_once,
                a_rate_that_observes_refuses_nothing,
                a_changed_rate_keeps_what_was_used,
                a_new_rate_is_not_one_that_was_taken_away,
                the_tightest_rate_of_each_kind_is_told,
                rates_survive_a_restart_and_a_remaking,
                racing_holds_keep_to_the_rate,
            }
            sessions::{
                a_session_has_a_budget_of_its_own,
                the_smallest_cap_counts_at_once,
                a_cap_by_pattern_counts_for_the_sessions_that_it_names,
                asking_in_vain_makes_no_session,
                a_session_belongs_to_its_key,
                a_silent_session_ends_and_goes_on_where_it_was,
            }
            tags::{
                a_correction_reaches_what_came_after_the_request,
                a_tag_budget_binds_pinned_tags_of_every_level,
                tags_of_clients_bind_only_where_a_policy_says_so,
                a_tag_is_of_its_organization_or_of_all,
                a_new_tag_account_counts_what_bound_before,
                a_tag_of_a_namespace_counts_its_own_keys,
                a_new_tag_of_a_namespace_counts_what_its_keys_spent,
                no_organization_is_called_as_the_tags_of_a_namespace,
                a_deleted_tag_account_binds_nothing,
                a_tag_pinned_later_counts_from_then_on,
                more_accounts_than_one_request_may_charge_are_refused,
                an_ask_that_is_an_error_brings_no_reports_along,
                as_many_and_as_long_tags_as_there_can_be_are_summed,
            }
            thresholds::{
                each_part_of_a_limit_is_recorded_once_and_in_order,
                every_account_of_a_request_has_its_own_events,
                a_correction_down_and_up_again_records_nothing_twice,
                an_expired_hold_crosses_and_its_correction_does_not_again,
                a_new_window_has_new_events,
                a_limit_lowered_onto_what_is_spent_is_crossed_then,
                soft_limits_and_observing_ones_have_events,
                a_rolling_window_is_crossed_each_time_it_fills,
                what_is_posted_to_a_part_that_has_left_crosses_and_overruns_nothing,
                a_rolling_limit_that_is_added_is_crossed_once,
                a_cursor_reads_every_event_once,
                a_threshold_is_a_part_of_a_limit,
            }
            zones::{
                windows_of_every_zone_roll_to_the_millisecond,
                several_windows_of_one_account_all_bind,
                a_rolling_window_frees_nothing_early,
                sixty_buckets_count_together,
                a_hold_leaves_a_rolling_window_with_its_bucket,
                a_limit_is_exact,
            }
            random::{
                random_messages_agree_with_a_naive_model,
            }
            owners::{
                a_key_has_the_organization_of_its_team,
                a_team_that_moves_takes_along_what_its_keys_charge,
                a_team_that_gets_an_organization_gives_it_to_its_keys,
            }
            admin::{
                accounts_are_made_changed_listed_and_deleted,
                names_are_taken_once,
                owners_must_exist,
                remaking_opens_no_fresh_money,
                deleting_a_team_takes_its_keys,
                a_refused_change_changes_nothing,
                spend_is_listed_by_request_and_by_tag,
            }
        }
    };
}

mod over_sqlite {
    every_scenario! { crate::sqlite::Sqlite }
}

mod over_postgres {
    every_scenario! { crate::postgres::Postgres }
}
