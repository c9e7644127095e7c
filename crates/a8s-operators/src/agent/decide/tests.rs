use super::super::lease::{Details, FENCE, Holder, Quorum};
use super::*;
use proptest::prelude::*;

/// A situation that a view is taken of.
#[derive(Clone, Debug)]
struct Case {
    pod: &'static str,
    replicas: u32,
    volume: Volume,
    server: Server,
    held: Option<Option<Duration>>,
    is_known: bool,
    blind: Duration,
    lease: Option<Record>,
    unchanged: Duration,
    has_changed: bool,
    is_gone: bool,
    stood: Duration,
    was_there: bool,
    is_spoilt: bool,
    members: Vec<Member>,
}

fn data(term: Option<u64>) -> Volume {
    Volume::Data { identifier: 7, generation: None, term, has_followed: true, is_sole: false }
}

fn standing(position: u64) -> Standing {
    Standing { vacancy: "10".into(), timeline: 1, position: Lsn(position), generation: None }
}

fn lease() -> Record {
    Record {
        version: Some("10".into()),
        holder: Some(Holder { pod: "x-0".into(), uid: "u0".into(), run: "r0".into() }),
        term: 4,
        is_renewed: true,
        identifier: Some("7".into()),
        details: Details { quorum: Quorum::of("x", 3, "x-0"), ..Details::default() },
        ..Record::default()
    }
}

fn member(pod: &str, standing: Option<Standing>) -> Member {
    Member { pod: pod.into(), uid: pod.replace("x-", "u"), is_ready: true, standing, ..Member::default() }
}

/// x-1 is a standby of x-0, with x-2.
fn standby() -> Case {
    Case {
        pod: "x-1",
        replicas: 3,
        volume: data(None),
        server: Server::Standby(None),
        held: None,
        is_known: true,
        blind: Duration::ZERO,
        lease: Some(lease()),
        unchanged: Duration::from_secs(1),
        has_changed: true,
        is_gone: false,
        stood: Duration::ZERO,
        was_there: false,
        is_spoilt: false,
        members: vec![Member { is_primary: true, ..member("x-0", None) }, member("x-2", None)],
    }
}

/// The same when x-0 has ended and both have said how far they are.
fn vacant(own: u64, other: u64) -> Case {
    let mut case = standby();
    case.is_gone = true;
    case.server = Server::Standby(Some(standing(own)));
    case.members = vec![Member { is_ready: false, ..member("x-0", None) }, member("x-2", Some(standing(other)))];
    case
}

fn sole() -> Case {
    let volume = Volume::Data { identifier: 7, generation: None, term: Some(4), has_followed: true, is_sole: true };
    let lease = Record { is_renewed: false, details: Details::default(), ..lease() };
    let server = Server::Stopped;
    Case { pod: "x-0", replicas: 1, volume, server, lease: Some(lease), members: vec![], ..standby() }
}

fn decided(case: &Case) -> Action {
    decide(&View {
        pod: case.pod,
        uid: &case.pod.replace("x-", "u"),
        ordinal: case.pod[2..].parse().ok(),
        replicas: case.replicas,
        volume: &case.volume,
        server: &case.server,
        held: case.held,
        is_known: case.is_known,
        blind: case.blind,
        lease: case.lease.as_ref(),
        unchanged: case.unchanged,
        has_changed: case.has_changed,
        is_gone: case.is_gone,
        stood: case.stood,
        was_there: case.was_there,
        is_spoilt: case.is_spoilt,
        members: &case.members,
    })
}

fn edited(case: Case, edit: impl FnOnce(&mut Case)) -> Case {
    let mut case = case;
    edit(&mut case);
    case
}

#[test]
fn a_holder_leads_until_its_renewal_is_too_old() {
    let holder = |age| {
        edited(standby(), |case| {
            case.held = Some(age);
            case.server = Server::Primary;
        })
    };
    assert_eq!(decided(&holder(Some(Duration::from_secs(1)))), Action::Lead);
    assert_eq!(decided(&holder(Some(FENCE))), Action::Stop);
    assert_eq!(decided(&holder(None)), Action::Lead, "an only member does not renew");
    assert!(FENCE + Duration::from_secs(2) < LASTS, "there is time for the end");
}

#[test]
fn who_lost_the_lease_stops_and_then_follows() {
    let mut case = edited(standby(), |case| {
        case.server = Server::Primary;
        case.volume = data(Some(3));
    });
    assert_eq!(decided(&case), Action::Stop);
    case.server = Server::Stopped;
    assert_eq!(decided(&case), Action::Follow("x-0".into()));
}

#[test]
fn a_server_that_runs_without_the_lease_ends_before_the_lease_is_taken_again() {
    let unheld = |is_renewed| {
        edited(standby(), |case| {
            (case.pod, case.server, case.volume) = ("x-0", Server::Primary, data(Some(4)));
            case.lease.as_mut().expect("a lease").is_renewed = is_renewed;
        })
    };
    assert_eq!(decided(&unheld(true)), Action::Stop);
    assert_eq!(decided(&unheld(false)), Action::Acquire, "nobody takes the place of an only member");
}

#[test]
fn a_living_holder_is_followed_but_not_before_it_showed_that_it_lives() {
    assert_eq!(decided(&standby()), Action::Follow("x-0".into()));
    let unseen = edited(standby(), |case| case.has_changed = false);
    assert_eq!(decided(&unseen), Action::Wait(Reason::Renewal("x-0".into())));
}

#[test]
fn a_frozen_holder_is_followed_until_the_lease_has_expired_and_a_dead_one_is_not() {
    let quiet = |time| edited(standby(), |case| case.unchanged = time);
    assert_eq!(decided(&quiet(LASTS)), Action::Follow("x-0".into()));
    assert_eq!(decided(&quiet(LASTS + Duration::from_millis(1))), Action::Stand);
    assert_eq!(decided(&edited(standby(), |case| case.is_gone = true)), Action::Stand);
    let released = edited(standby(), |case| case.lease.as_mut().expect("a lease").holder = None);
    assert_eq!(decided(&released), Action::Stand);
}

#[test]
fn what_could_not_follow_the_primary_is_copied_from_it_and_leads_without_one() {
    let spoilt = |case: Case| edited(case, |case| case.is_spoilt = true);
    assert_eq!(decided(&spoilt(standby())), Action::Clone("x-0".into()));
    let away = edited(standby(), |case| case.members[0].is_ready = false);
    assert_eq!(decided(&spoilt(away)), Action::Wait(Reason::Primary("x-0".into())));
    assert_eq!(decided(&spoilt(vacant(100, 99))), Action::Acquire);
    assert_eq!(decided(&spoilt(vacant(100, 101))), Action::Wait(Reason::Better("x-2".into())));
    let unsaid = edited(vacant(100, 99), |case| case.server = Server::Stopped);
    assert_eq!(decided(&spoilt(unsaid)), Action::Stand);
}

#[test]
fn the_one_with_most_data_takes_the_lease() {
    assert_eq!(decided(&vacant(100, 99)), Action::Acquire);
    assert_eq!(decided(&vacant(100, 101)), Action::Wait(Reason::Better("x-2".into())));
    assert_eq!(decided(&vacant(100, 100)), Action::Acquire, "the lower number");
    let newer = edited(vacant(500, 1), |case| {
        case.members[1].standing.as_mut().expect("one").timeline = 2;
    });
    assert_eq!(decided(&newer), Action::Wait(Reason::Better("x-2".into())));
}

#[test]
fn without_enough_answers_nobody_leads_however_long_it_takes() {
    let alone = edited(vacant(100, 0), |case| {
        case.members[1].standing = None;
        case.stood = Duration::from_secs(1000);
        case.unchanged = Duration::from_secs(1000);
    });
    let waiting = Action::Wait(Reason::Quorum { asked: 1, needed: 2 });
    assert_eq!(decided(&alone), waiting);
    let outdated = edited(alone, |case| {
        case.members[1].standing = Some(Standing { vacancy: "9".into(), ..standing(1) });
    });
    assert_eq!(decided(&outdated), waiting, "what was said of another version of the Lease is no promise");
}

#[test]
fn what_a_member_has_said_counts_also_while_it_does_not_answer() {
    // Both have started without a primary, one after the other: none of them is ready.
    let unready = |own, other| {
        edited(vacant(own, other), |case| {
            case.members[1].is_ready = false;
            case.stood = PATIENCE * 2;
        })
    };
    assert_eq!(decided(&unready(100, 99)), Action::Acquire);
    assert_eq!(decided(&unready(100, 100)), Action::Acquire, "it is behind nobody");
    let waiting = Action::Wait(Reason::Quorum { asked: 1, needed: 2 });
    assert_eq!(decided(&unready(100, 101)), waiting, "the other has more, and it may be a commit");
}

#[test]
fn who_has_all_of_a_primary_that_has_ended_in_order_need_not_ask_the_others() {
    // The other standby is away for good.
    let ended = |own| {
        edited(vacant(own, 0), |case| {
            let lease = case.lease.as_mut().expect("a lease");
            (lease.holder, lease.details.timeline) = (None, 1);
            (lease.details.position, lease.details.is_end) = (Lsn(100), true);
            case.members[1] = Member { is_ready: false, ..member("x-2", None) };
        })
    };
    assert_eq!(decided(&ended(100)), Action::Acquire);
    let waiting = Action::Wait(Reason::Quorum { asked: 1, needed: 2 });
    assert_eq!(decided(&ended(99)), waiting, "what it lacks may be a commit");
    let other = edited(ended(100), |case| case.lease.as_mut().expect("a lease").details.timeline = 2);
    assert_eq!(decided(&other), waiting, "it has not been where that one ended");
    let crashed = edited(ended(100), |case| case.lease.as_mut().expect("a lease").details.is_end = false);
    assert_eq!(decided(&crashed), waiting, "there may be more than was noted");
    let held = edited(ended(100), |case| case.lease.as_mut().expect("a lease").holder = lease().holder);
    assert_eq!(decided(&held), waiting, "another one has led since");
    let further = edited(ended(100), |case| case.members[1] = member("x-2", Some(standing(101))));
    assert_eq!(decided(&further), Action::Wait(Reason::Better("x-2".into())));
}

#[test]
fn who_has_taken_the_lease_and_does_not_know_it_is_still_the_one_that_was_chosen() {
    // Those who confirm its commits are the other standby and the last primary, which is away for good.
    let taken = |uid: &str| {
        edited(vacant(100, 100), |case| {
            let lease = case.lease.as_mut().expect("a lease");
            lease.holder = Some(Holder { pod: "x-1".into(), uid: uid.into(), run: "r1".into() });
            (lease.details.quorum, case.is_gone) = (Quorum::of("x", 3, "x-1"), false);
        })
    };
    assert_eq!(decided(&taken("u1")), Action::Acquire);
    let waiting = Action::Wait(Reason::Quorum { asked: 1, needed: 2 });
    assert_eq!(decided(&taken("u9")), waiting, "another volume may have led since");
    let further = edited(taken("u1"), |case| case.members[1] = member("x-2", Some(standing(101))));
    assert_eq!(decided(&further), Action::Wait(Reason::Better("x-2".into())));
}

#[test]
fn of_two_members_the_other_leads_unless_it_is_far_behind() {
    let two = |position, last| {
        edited(vacant(position, 0), |case| {
            case.replicas = 2;
            case.members.truncate(1);
            let details = &mut case.lease.as_mut().expect("a lease").details;
            *details = Details { position: Lsn(last), ..Details::default() };
        })
    };
    assert_eq!(decided(&two(100, 200)), Action::Acquire);
    assert_eq!(decided(&two(100, 200 + LAG)), Action::Wait(Reason::Lag(LAG + 100)));
}

#[test]
fn where_nobody_confirms_commits_those_who_are_there_are_still_asked() {
    let case = |stood| {
        edited(vacant(100, 0), |case| {
            case.lease.as_mut().expect("a lease").details.quorum = Quorum::default();
            case.members[1].standing = None;
            case.stood = stood;
        })
    };
    assert_eq!(decided(&case(Duration::ZERO)), Action::Wait(Reason::Better("x-2".into())));
    assert_eq!(decided(&case(PATIENCE)), Action::Acquire);
}

#[test]
fn the_member_that_was_asked_for_is_preferred_among_equals_only() {
    let wanted = |own, other| {
        edited(vacant(own, other), |case| {
            let lease = case.lease.as_mut().expect("a lease");
            lease.holder = None;
            lease.details.successor = Some("x-2".into());
        })
    };
    assert_eq!(decided(&wanted(100, 100)), Action::Wait(Reason::Better("x-2".into())));
    assert_eq!(decided(&wanted(100, 99)), Action::Acquire);
}

#[test]
fn the_primary_of_the_last_term_may_go_on_if_nobody_has_taken_its_place() {
    let back = |pod: &str, term| {
        edited(standby(), |case| {
            case.pod = "x-0";
            case.server = Server::Stopped;
            case.volume = data(Some(term));
            case.lease.as_mut().expect("a lease").holder.as_mut().expect("a holder").pod = pod.into();
        })
    };
    assert_eq!(decided(&back("x-0", 4)), Action::Acquire);
    let quick = edited(back("x-0", 4), |case| case.unchanged = Duration::ZERO);
    assert_eq!(decided(&quick), Action::Wait(Reason::Better("x-2".into())), "a standby is quicker");
    let uncertain = edited(quick, |case| case.lease.as_mut().expect("a lease").details.quorum = Quorum::default());
    assert_eq!(decided(&uncertain), Action::Acquire, "a standby may not have everything");
    assert_eq!(decided(&back("x-1", 4)), Action::Follow("x-1".into()));
    assert_eq!(decided(&back("x-0", 3)), Action::Stand, "another volume than the one that led");
    let released = edited(back("x-0", 4), |case| case.lease.as_mut().expect("a lease").holder = None);
    assert_eq!(decided(&released), Action::Acquire, "all members were stopped");
    let given = edited(released, |case| {
        case.lease.as_mut().expect("a lease").details.successor = Some("x-1".into());
    });
    assert_ne!(decided(&given), Action::Acquire);
    let unclaimed = edited(given, |case| case.unchanged = PATIENCE * 2);
    assert_eq!(decided(&unclaimed), Action::Acquire);
}

#[test]
fn of_two_the_primary_that_ended_in_order_is_waited_for_by_one_that_has_less() {
    let waiting = |own: u64, end: u64, stood: Duration| {
        edited(vacant(own, 1), |case| {
            let lease = case.lease.as_mut().expect("a lease");
            (lease.holder, lease.details.quorum, lease.details.position) = (None, Quorum::default(), Lsn(end));
            (case.members, case.stood) = (vec![], stood);
        })
    };
    let late = PATIENCE * 2;
    assert_eq!(decided(&waiting(100, 100, late)), Action::Acquire, "it has everything");
    assert_eq!(decided(&waiting(90, 100, late)), Action::Wait(Reason::Former(10)));
    assert_eq!(decided(&waiting(90, 100, RETURN)), Action::Acquire, "the other does not come back");
    let crashed = edited(waiting(90, 100, late), |case| {
        (case.lease.as_mut().expect("a lease").holder, case.is_gone) = (lease().holder, true);
    });
    assert_eq!(decided(&crashed), Action::Acquire, "it has not ended in order");
}

#[test]
fn of_two_the_one_that_was_named_waits_for_nobody() {
    let named = edited(vacant(100, 1), |case| {
        let lease = case.lease.as_mut().expect("a lease");
        (lease.holder, lease.details.quorum) = (None, Quorum::default());
        lease.details.successor = Some("x-1".into());
        // The last primary still looks ready.
        (case.members, case.stood) = (vec![member("x-0", None)], Duration::ZERO);
    });
    assert_eq!(decided(&named), Action::Acquire);
    // Its connection broke before the other ended.
    let behind = edited(named.clone(), |case| case.lease.as_mut().expect("a lease").details.position = Lsn(110));
    assert_eq!(decided(&behind), Action::Wait(Reason::Former(10)));
    let other = edited(named, |case| case.lease.as_mut().expect("a lease").details.successor = Some("x-0".into()));
    assert_eq!(decided(&other), Action::Wait(Reason::Better("x-0".into())));
}

#[test]
fn a_volume_without_the_content_never_leads() {
    let nothing = |volume: Volume| edited(vacant(100, 1), |case| case.volume = volume);
    let other = |generation: &str| Volume::Data {
        identifier: 7,
        generation: Some(generation.into()),
        term: Some(4),
        has_followed: true,
        is_sole: false,
    };
    for volume in [Volume::Empty, Volume::Unfinished(7), other("old")] {
        assert_eq!(decided(&nothing(volume.clone())), Action::Wait(Reason::NoSource));
        let mut living = edited(standby(), |case| case.volume = volume);
        assert_eq!(decided(&living), Action::Clone("x-0".into()));
        living.members[0].is_ready = false;
        assert_eq!(decided(&living), Action::Wait(Reason::Primary("x-0".into())));
    }
    let fresh = Volume::Data { identifier: 7, generation: None, term: None, has_followed: false, is_sole: false };
    assert_eq!(decided(&nothing(fresh)), Action::Wait(Reason::NeverFollowed));
    let foreign = Volume::Data { identifier: 8, generation: None, term: Some(4), has_followed: true, is_sole: true };
    assert_eq!(decided(&nothing(foreign)), Action::Refuse(Refusal::Foreign));
}

#[test]
fn a_new_instance_is_initialised_by_its_first_member_only() {
    let new = |pod, volume| {
        edited(standby(), |case| {
            (case.pod, case.volume, case.lease, case.server) = (pod, volume, None, Server::Stopped);
            case.members = vec![Member { pod: "x-2".into(), ..Member::default() }];
        })
    };
    assert_eq!(decided(&new("x-0", Volume::Empty)), Action::Initialise);
    assert_eq!(decided(&new("x-1", Volume::Empty)), Action::Wait(Reason::First));
    assert_eq!(decided(&new("x-0", data(Some(0)))), Action::Wait(Reason::NoLease));
    let begun = edited(new("x-0", Volume::Unfinished(7)), |case| {
        case.lease = Some(Record { term: 0, ..lease() });
    });
    assert_eq!(decided(&begun), Action::Initialise);
}

#[test]
fn an_instance_whose_lease_was_deleted_is_not_initialised_again() {
    let deleted = edited(standby(), |case| {
        (case.pod, case.volume, case.lease, case.server) = ("x-0", Volume::Empty, None, Server::Stopped);
        case.members = vec![Member { is_ready: false, ..member("x-1", None) }];
    });
    assert_eq!(decided(&deleted), Action::Initialise, "nothing says that there was one");
    let seen = edited(deleted.clone(), |case| case.was_there = true);
    let standing = edited(deleted.clone(), |case| case.members[0].standing = Some(standing(9)));
    let configured = edited(deleted, |case| case.members[0].parameters = vec!["p".into()]);
    for case in [seen, standing, configured] {
        assert_eq!(decided(&case), Action::Wait(Reason::NoLease));
    }
}

#[test]
fn of_two_what_is_of_an_older_timeline_counts_until_the_term_began() {
    // x-0 led on timeline 2, from 100 of timeline 1.
    let forked = |own: u64, end: u64| {
        edited(vacant(own, 1), |case| {
            let details = &mut case.lease.as_mut().expect("a lease").details;
            (details.quorum, details.timeline, details.parent) = (Quorum::default(), 2, 1);
            (details.begins, details.position) = (Lsn(100), Lsn(end));
            (case.members, case.stood) = (vec![], PATIENCE * 2);
        })
    };
    assert_eq!(decided(&forked(100, 100)), Action::Acquire, "the term had nothing of its own");
    let more = 100 + LAG + 1;
    assert_eq!(
        decided(&forked(more, more)),
        Action::Wait(Reason::Lag(LAG + 1)),
        "what it has more is not the instance's"
    );
    let ended = edited(forked(150, 150), |case| case.lease.as_mut().expect("a lease").holder = None);
    assert_eq!(decided(&ended), Action::Wait(Reason::Former(50)));
}

#[test]
fn an_only_member_serves_without_the_api_and_is_nobodys_rival() {
    assert_eq!(decided(&sole()), Action::Acquire);
    let blind = |time| {
        edited(sole(), |case| {
            (case.is_known, case.lease, case.blind) = (false, None, time);
        })
    };
    assert_eq!(decided(&blind(API)), Action::Lead);
    assert_eq!(decided(&blind(Duration::ZERO)), Action::Wait(Reason::Api));
    let one_of_three = edited(blind(API * 100), |case| case.volume = data(Some(4)));
    assert_eq!(decided(&one_of_three), Action::Wait(Reason::Api));
    let lost = edited(sole(), |case| case.volume = Volume::Empty);
    assert_eq!(decided(&lost), Action::Refuse(Refusal::Lost));
    // A second member beside one that does not renew its Lease.
    let second = edited(standby(), |case| {
        case.lease.as_mut().expect("a lease").is_renewed = false;
        case.unchanged = LASTS * 100;
        case.is_gone = true;
    });
    assert_eq!(decided(&second), Action::Wait(Reason::Sole("x-0".into())));
}

prop_compose! {
    fn positions()(n in 2_usize..6)(
        standings in proptest::collection::vec(proptest::option::of((1_u32..3, 0_u64..4)), n..=n),
        versions in proptest::collection::vec(proptest::bool::weighted(0.8), n..=n),
        ready in proptest::collection::vec(proptest::bool::weighted(0.8), n..=n),
        quorum in any::<bool>(),
    ) -> (Vec<Option<Standing>>, Vec<bool>, bool) {
        let standings = standings.iter().zip(versions).map(|(standing, is_new)| {
            let (timeline, position) = (*standing)?;
            let vacancy = if is_new { "10" } else { "9" }.to_owned();
            Some(Standing { vacancy, timeline, position: Lsn(position), generation: None })
        });
        (standings.collect(), ready, quorum)
    }
}

proptest! {
    /// All members see the same: at most one takes the Lease, it is behind none of those that count, and so many were
    /// asked that one of them has each commit, unless it has all of a primary that has ended in order.
    #[test]
    fn at_most_one_leads_and_it_has_everything(
        (standings, ready, quorum) in positions(), is_late in any::<bool>(),
        end in proptest::option::of((1_u32..3, 0_u64..4)),
    ) {
        const NAMES: [&str; 6] = ["x-1", "x-2", "x-3", "x-4", "x-5", "x-6"];
        let replicas = u32::try_from(standings.len()).expect("few") + 1;
        let mut lease = lease();
        lease.details.quorum = if quorum { Quorum::of("x", replicas, "x-0") } else { Quorum::default() };
        if let Some((timeline, position)) = end {
            lease.holder = None;
            (lease.details.timeline, lease.details.position, lease.details.is_end) = (timeline, Lsn(position), true);
        }
        let members: Vec<Member> = standings.iter().zip(NAMES).zip(&ready)
            .map(|((standing, name), ready)| Member { is_ready: *ready, ..member(name, standing.clone()) }).collect();
        let mut leaders = Vec::new();
        for (index, standing) in standings.iter().enumerate() {
            let case = edited(standby(), |case| {
                case.pod = NAMES[index];
                case.replicas = replicas;
                case.lease = Some(lease.clone());
                case.is_gone = true;
                case.server = Server::Standby(standing.clone());
                case.members = members.iter().filter(|member| member.pod != NAMES[index]).cloned().collect();
                case.stood = if is_late { PATIENCE * 2 } else { Duration::ZERO };
            });
            if decided(&case) == Action::Acquire {
                leaders.push(index);
            }
        }
        // A member that does not answer may still believe that it should lead; the compare-and-swap decides between it
        // and one that answers. Of those that answer, one at most.
        prop_assert!(leaders.iter().filter(|index| ready[**index] || !is_late).count() <= 1, "{leaders:?}");
        for leader in leaders {
            let valid = |standing: &&Standing| standing.vacancy == "10";
            let own = standings[leader].as_ref().filter(valid).expect("it has said how far it is");
            let said = |index: usize| standings[index].as_ref().filter(valid);
            let has_no_more = |it: &Standing| (it.timeline, it.position) <= (own.timeline, own.position);
            let who_has_no_more = (0..standings.len()).filter(|index| said(*index).is_some_and(has_no_more));
            let has_all = end.is_some_and(|(timeline, at)| own.timeline == timeline && own.position >= Lsn(at));
            prop_assert!(has_all || who_has_no_more.count() >= lease.details.quorum.to_be_asked());
            let mut who_is_there = (0..standings.len()).filter(|index| ready[*index] || !is_late);
            prop_assert!(who_is_there.all(|index| said(index).is_none_or(has_no_more)));
        }
    }

    /// Whatever else it sees: with another identifier or generation, or without data, a member neither leads nor takes
    /// the Lease.
    #[test]
    fn wrong_content_never_leads(
        which in 0_u8..4, is_gone in any::<bool>(), seconds in 0_u64..100, term in proptest::option::of(0_u64..6),
        pod in prop_oneof![Just("x-0"), Just("x-1")], replicas in 0_u32..5, is_renewed in any::<bool>(),
    ) {
        let wrong = |identifier, generation: Option<&str>| Volume::Data {
            identifier, generation: generation.map(str::to_owned), term, has_followed: true, is_sole: false,
        };
        let volume = match which {
            0 => Volume::Empty,
            1 => wrong(8, None),
            2 => wrong(7, Some("other")),
            _ => Volume::Unfinished(8),
        };
        for server in [Server::Stopped, Server::Primary, Server::Standby(None), Server::Standby(Some(standing(99)))] {
            let case = edited(vacant(99, 1), |case| {
                (case.pod, case.replicas, case.volume, case.server) = (pod, replicas, volume.clone(), server.clone());
                (case.is_gone, case.unchanged) = (is_gone, Duration::from_secs(seconds));
                case.lease.as_mut().expect("a lease").is_renewed = is_renewed;
            });
            let action = decided(&case);
            prop_assert!(!matches!(action, Action::Acquire | Action::Lead | Action::Claim | Action::Initialise), "{action:?}");
        }
    }
}
