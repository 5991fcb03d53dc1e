//! The service as an operator meets it: over a socket, over both stores.

mod adopt;
mod apply;
mod changes;
#[path = "../postgres/cluster.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod cluster;
mod doors;
mod fields;
mod list;
#[path = "../proto/paths.rs"]
mod paths;
mod prices;
mod replicas;
mod world;

/// One test for each scenario, over each store.
macro_rules! over_both {
    ($($module:ident :: {$($scenario:ident),+ $(,)?})+) => {
        mod over_sqlite {$($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                crate::$module::$scenario(crate::world::World::sqlite().await).await;
            }
        )+)+}
        mod over_postgres {$($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                crate::$module::$scenario(crate::world::World::postgres().await).await;
            }
        )+)+}
    };
}

over_both! {
    adopt::{
        an_adopted_account_keeps_what_it_spent_and_its_windows,
        an_account_that_caps_sessions_is_adopted_by_what_caps_them_too,
        an_adopted_key_keeps_the_keys_that_people_hold,
        a_rotation_of_an_adopted_key_says_its_keys,
        what_never_was_is_not_adopted,
        a_deleted_account_is_adopted_again_with_its_past,
        tags_are_adopted_by_their_own_names,
    }
    apply::{
        each_outcome_has_its_name,
        the_order_of_limits_and_rates_means_nothing,
        what_a_manager_made_only_it_changes,
        a_key_has_the_organization_of_its_team,
        a_block_in_an_emergency_stays,
        a_rotation_overlaps,
        deleting_is_idempotent_and_keeps_what_was_spent,
        a_tag_of_a_namespace_is_not_the_installations,
    }
    changes::{
        changes_are_told_once_and_nothing_is_left_out,
        a_window_that_ends_is_a_change,
        a_cursor_survives_a_restart,
        a_cursor_from_before_a_restore_begins_again,
        a_long_list_comes_in_pages,
        crossings_come_in_order,
    }
    doors::{
        only_the_master_key_opens,
        absurd_messages_are_refused_whole,
    }
    prices::{
        prices_are_set_refused_and_cleared,
        absurd_prices_are_refused_whole,
    }
    list::{
        all_that_is_said_is_listed,
        a_long_list_comes_in_parts,
        only_what_there_is_is_listed,
        an_absurd_question_is_refused,
    }
    fields::{
        every_field_is_checked_and_named,
    }
}
