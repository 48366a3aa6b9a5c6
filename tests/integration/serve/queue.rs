//! What waits, what is captioned together, and what a failure of one does to others.

use std::io::Write;
use std::thread;

use clipcap::serve::ServiceConfig;

use super::help::*;

fn waiting(running: &Running) -> usize {
    let metrics = get(running.address, "/metrics").body;
    let waiting = metrics
        .lines()
        .find_map(|line| line.strip_prefix("clipcap_queue_images "));
    waiting.unwrap().parse().unwrap()
}

/// Sends an image without waiting for its captions.
fn send(running: &Running, target: &str, width: u32) -> std::net::TcpStream {
    let mut stream = connect(running.address);
    let request = request("POST", target, &[], &png(width));
    stream.write_all(&request).unwrap();
    stream
}

#[test]
fn a_full_queue_answers_503_with_retry_after_and_loses_nothing() {
    let fake = Fake::default();
    fake.gate.close();
    let running = start(
        fake.clone(),
        ServiceConfig {
            queue_length: 3,
            ..config()
        },
    );
    let mut taken = vec![send(&running, "/caption", 20)];
    fake.gate.wait_for_arrival();
    for count in 1..=3 {
        taken.push(send(&running, "/caption", 20 + count));
        wait_until("it waits", || waiting(&running) == count as usize);
    }
    for _ in 0..3 {
        let refused = post(running.address, &png(30));
        refused.fails(503, &["3 images wait already", "again"]);
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    assert_eq!(get(running.address, "/health").status, 200);
    fake.gate.open();
    for (index, stream) in taken.into_iter().enumerate() {
        assert_eq!(
            read_answer(stream).caption(),
            format!("{} wide, 0", 20 + index)
        );
    }
    assert_eq!(post(running.address, &png(30)).caption(), "30 wide, 0");
}

#[test]
fn images_with_the_same_settings_are_captioned_together_in_their_order() {
    let fake = Fake::default();
    fake.gate.close();
    let running = start(fake.clone(), config());
    let mut sent = vec![send(&running, "/caption", 20)];
    fake.gate.wait_for_arrival();
    let targets = [
        "/caption",
        "/caption?num_captions=2",
        "/caption?num_captions=1",
        "/caption",
        "/caption?num_captions=2",
        "/caption",
        "/caption",
    ];
    for (index, target) in targets.iter().enumerate() {
        sent.push(send(&running, target, 21 + index as u32));
        wait_until("it waits", || waiting(&running) == index + 1);
    }
    fake.gate.open();
    for (index, stream) in sent.into_iter().enumerate() {
        let answer = read_answer(stream);
        assert_eq!(answer.caption(), format!("{} wide, 0", 20 + index));
    }
    let batches = fake.batches.lock().unwrap();
    let expected = [
        (vec![20], 1),
        (vec![21, 23, 24, 26], 1),
        (vec![22, 25], 2),
        (vec![27], 1),
    ];
    assert_eq!(*batches, expected);
}

#[test]
fn a_client_that_goes_away_leaves_the_queue() {
    let fake = Fake::default();
    fake.gate.close();
    let running = start(fake.clone(), config());
    let first = send(&running, "/caption", 20);
    fake.gate.wait_for_arrival();
    let gone = send(&running, "/caption", 21);
    wait_until("it waits", || waiting(&running) == 1);
    let last = send(&running, "/caption", 22);
    wait_until("both wait", || waiting(&running) == 2);
    let log_of_gone = || {
        get(running.address, "/metrics")
            .body
            .contains("status=\"499\"} 1")
    };
    drop(gone);
    wait_until("it is seen that one went", log_of_gone);
    fake.gate.open();
    assert_eq!(read_answer(first).caption(), "20 wide, 0");
    assert_eq!(read_answer(last).caption(), "22 wide, 0");
    let captioned: Vec<u32> = (fake.batches.lock().unwrap().iter())
        .flat_map(|(widths, _)| widths.clone())
        .collect();
    assert_eq!(captioned, [20, 22]);
}

#[test]
fn a_panic_or_an_error_is_that_image_s_500_and_no_other_s() {
    let fake = Fake::default();
    fake.gate.close();
    let running = start(fake.clone(), config());
    let first = send(&running, "/caption", 20);
    fake.gate.wait_for_arrival();
    let together: Vec<_> = [21, PANICS, FAILS, 22]
        .into_iter()
        .enumerate()
        .map(|(index, width)| {
            let stream = send(&running, "/caption", width);
            wait_until("it waits", || waiting(&running) == index + 1);
            stream
        })
        .collect();
    fake.gate.open();
    assert_eq!(read_answer(first).caption(), "20 wide, 0");
    let answers: Vec<Answer> = together.into_iter().map(read_answer).collect();
    assert_eq!(answers[0].caption(), "21 wide, 0");
    answers[1].fails(
        500,
        &["captioning failed", "this width cannot be captioned"],
    );
    answers[2].fails(500, &["captioning failed", "the device is gone"]);
    assert_eq!(answers[3].caption(), "22 wide, 0");
    post(running.address, &png(CROP_PANICS)).fails(500, &["this width cannot be cropped"]);
    assert_eq!(post(running.address, &png(23)).caption(), "23 wide, 0");
}

#[test]
fn many_clients_at_once_each_get_an_answer() {
    let running = start(
        Fake::default(),
        ServiceConfig {
            queue_length: 4,
            ..config()
        },
    );
    let address = running.address;
    let statuses: Vec<u16> = thread::scope(|threads| {
        let clients: Vec<_> = (0..40)
            .map(|index| {
                threads.spawn(move || {
                    let answers = (0..10).map(|_| {
                        let answer = post(address, &png(20 + index));
                        match answer.status {
                            200 => assert_eq!(answer.caption(), format!("{} wide, 0", 20 + index)),
                            _ => drop(answer.fails(503, &["again"])),
                        }
                        answer.status
                    });
                    answers.collect::<Vec<_>>()
                })
            })
            .collect();
        clients
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect()
    });
    assert_eq!(statuses.len(), 400);
    assert!(statuses.contains(&200));
}
