//! What every store promises, tested over the trait: a store is added by a [`Backend`] and one line at the end.

mod admin;
#[path = "../postgres/cluster.rs"]
mod cluster;
mod denials;
mod holds;
mod postgres;
mod random;
mod reading;
mod reports;
mod sqlite;
mod windows;
mod world;

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
                a_correction_posts_the_difference_and_edits_nothing,
                a_hold_is_settled_by_the_prices_that_it_was_made_by,
            }
            windows::{
                a_window_rolls_exactly_at_its_boundary,
                a_hold_settles_in_the_window_of_its_making,
                a_new_limit_counts_the_past_of_its_window,
                a_limit_that_comes_back_counts_what_it_missed,
                time_never_moves_a_window_back,
            }
            random::{
                random_messages_agree_with_a_naive_model,
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
