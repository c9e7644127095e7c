//! The node against the API server, with real processes: as root, as an ordinary user, and where the system allows no
//! mount namespaces. This program is its own launcher, and starts itself again for the other users.

#[path = "node/api.rs"]
mod api;
#[path = "node/crash.rs"]
mod crash;
#[path = "node/lifecycle.rs"]
mod lifecycle;
#[path = "node/user.rs"]
mod user;
#[path = "node/view.rs"]
mod view;
#[path = "node/world.rs"]
mod world;

use libtest_mimic::{Arguments, Failed, Trial};

macro_rules! cases {
    ($($module:ident::$name:ident),* $(,)?) => {
        vec![$(case(concat!(stringify!($module), "::", stringify!($name)), || Box::pin($module::$name()))),*]
    };
}

fn main() {
    kube_embedded::node::launcher::dispatch();
    crash::dispatch();
    #[cfg(target_os = "linux")]
    user::become_what_is_asked();
    if !cfg!(target_os = "linux") {
        println!("no node runs on this system");
        return;
    }
    let mut trials = cases![
        lifecycle::a_program_runs_to_its_end_and_its_output_is_the_log,
        lifecycle::init_containers_run_first_and_in_order,
        lifecycle::a_failed_init_container_fails_a_pod_that_never_restarts,
        lifecycle::a_crashing_container_restarts_at_once_and_then_waits,
        lifecycle::a_program_that_does_not_exist_is_a_start_error,
        lifecycle::an_unknown_image_is_not_pulled_and_said,
        lifecycle::a_missing_secret_is_waited_for,
        lifecycle::hooks_and_the_termination_message_are_heard,
        lifecycle::a_deleted_pod_gets_its_grace_period_and_leaves_nothing,
        lifecycle::directories_that_a_program_closed_to_itself_are_in_nobodys_way,
        lifecycle::a_hook_that_takes_all_the_time_leaves_its_program_some,
        lifecycle::a_stubborn_pod_is_killed_with_everything_it_started,
        lifecycle::a_pod_that_lives_for_too_long_fails,
        lifecycle::a_deleted_pod_that_is_held_says_how_it_ended,
        lifecycle::who_watches_a_deleted_pod_learns_how_it_ended,
        lifecycle::a_failing_liveness_probe_restarts_the_container,
        lifecycle::a_container_that_ends_slowly_is_asked_on_whether_it_is_ready,
        view::volumes_are_at_their_paths_and_private,
        view::a_pod_gets_no_token_that_its_account_forbids,
        view::projected_tokens_are_for_their_audiences,
        view::a_changed_config_map_and_label_arrive_in_the_container,
        view::a_config_map_that_changes_keeps_no_container_from_a_file_of_it,
        view::data_of_a_claim_outlives_the_pod,
        view::names_of_services_are_in_the_hosts_file,
        view::no_directory_is_made_through_a_link,
        view::what_is_hidden_is_seen_only_where_it_is_mounted,
        view::what_a_program_needs_it_cannot_change,
        view::a_mount_leads_past_no_closed_directory,
        api::logs_of_containers_are_found_and_followed,
        api::commands_run_in_the_container_with_input_output_and_exit_code,
        api::a_command_with_a_terminal_has_one,
        api::a_command_ends_with_its_client,
        api::ready_pods_answer_at_the_services_address_and_by_port_forward,
        api::a_services_address_that_was_taken_is_served_once_it_is_free,
        api::conditions_that_others_gave_the_node_stay,
        api::the_node_object_and_its_lease_are_there,
        crash::a_stopped_node_leaves_nothing_and_starts_its_pods_again,
        crash::a_node_stops_in_time_while_a_pod_is_being_deleted,
        crash::a_pod_that_is_deleted_after_a_crash_goes_with_its_processes,
        crash::a_killed_node_leaves_no_process_and_starts_its_pods_again,
    ];
    trials.extend(user::others());
    let mut arguments = Arguments::from_args();
    // Containers are started together; more of them than processors only makes each slower.
    arguments.test_threads.get_or_insert(4);
    libtest_mimic::run(&arguments, trials).exit();
}

type Case = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn case(name: &'static str, run: fn() -> Case) -> Trial {
    Trial::test(name, move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let verdict = runtime.block_on(async {
            let work = tokio::spawn(run());
            match tokio::time::timeout(std::time::Duration::from_secs(60), work).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(Failed::from(error.to_string())),
                Err(_) => Err(Failed::from("not done after a minute")),
            }
        });
        // A thread that hangs is no reason to wait for it.
        runtime.shutdown_background();
        verdict
    })
}
