//! Addresses in the beginning, and what is still answered in the end.

use std::io::Write;
use std::net::TcpStream;
use std::thread;

use clipcap::serve::{Service, ServiceConfig};

use super::help::*;

#[test]
fn a_host_may_be_a_name_and_port_0_is_a_free_one() {
    for host in ["localhost", "127.0.0.1"] {
        let service = Service::new(Fake::default(), config()).unwrap();
        let listening = service.bind(host, 0).unwrap();
        let addresses = listening.addresses().to_vec();
        let port = addresses[0].port();
        assert_ne!(port, 0);
        assert!(addresses.iter().all(|address| address.port() == port));
        let stop = listening.stopper();
        let thread = thread::spawn(move || listening.run());
        for address in addresses {
            assert_eq!(get(address, "/health").status, 200, "{address}");
        }
        stop.stop();
        thread.join().unwrap().unwrap();
    }
    let service = Service::new(Fake::default(), config()).unwrap();
    let error = service.bind("no such host", 0).err().unwrap();
    assert!(format!("{error:#}").contains("no such host"), "{error:#}");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let running = start(Fake::default(), config());
    let service = Service::new(Fake::default(), config()).unwrap();
    let port = running.address.port();
    let error = service.bind("127.0.0.1", port).err().unwrap().to_string();
    assert!(error.contains(&running.address.to_string()), "{error}");
}

#[test]
fn what_was_taken_is_answered_before_the_end_and_silent_connections_do_not_delay_it() {
    let fake = Fake::default();
    fake.gate.close();
    let mut config = ServiceConfig {
        batch_size: 1,
        ..config()
    };
    config.deadlines.head = std::time::Duration::from_secs(3600);
    config.deadlines.idle = config.deadlines.head;
    let running = start(fake.clone(), config);
    let silent = connect(running.address);
    let mut idle = connect(running.address);
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n")
        .unwrap();
    let taken: Vec<TcpStream> = (20..23)
        .map(|width| {
            let mut stream = connect(running.address);
            let request = request("POST", "/caption", &[], &png(width));
            stream.write_all(&request).unwrap();
            stream
        })
        .collect();
    fake.gate.wait_for_arrival();
    let waiting = || {
        get(running.address, "/metrics")
            .body
            .contains("clipcap_queue_images 2\n")
    };
    wait_until("the others wait", waiting);
    running.stop.stop();
    wait_until("nobody listens", || {
        TcpStream::connect(running.address).is_err()
    });
    fake.gate.open();
    for (index, stream) in taken.into_iter().enumerate() {
        let answer = read_answer(stream);
        assert_eq!(answer.caption(), format!("{} wide, 0", 20 + index));
    }
    running.join().unwrap();
    drop((silent, idle));
}

#[test]
fn a_service_whose_captions_have_ended_says_so_and_ends() {
    let running = start(Fake::default(), config());
    let answer = post(running.address, &png(ENDS));
    answer.fails(500, &["captioning failed", "thread has ended"]);
    let error = running.join().unwrap_err().to_string();
    assert!(
        error.contains("the thread that captions has ended"),
        "{error}"
    );
}
