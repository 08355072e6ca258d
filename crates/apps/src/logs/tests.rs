use corral_types::{CallId, Timestamp};

use super::*;

fn app(value: u128) -> AppId {
    AppId::from_u128(value)
}

fn line(at: u64, descriptor: u8, text: &str) -> NewLogLine {
    NewLogLine {
        at: Timestamp::from_millis(at),
        descriptor,
        container: None,
        function: None,
        call: None,
        input: None,
        text: text.to_owned(),
    }
}

fn texts(entries: &[LogEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.line.text.as_str()).collect()
}

const EVER: TimeRange =
    TimeRange { since: Timestamp::from_millis(0), until: Timestamp::from_millis(u64::MAX) };

#[tokio::test]
async fn lines_are_read_by_place_and_survive_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let logs = AppLogs::new(folder.path().to_owned());
    let mut newest = logs.newest(app(1)).unwrap();
    assert_eq!(*newest.borrow_and_update(), 0);
    let mut of_call = line(3, 1, "three");
    of_call.call = Some(CallId::from_u128(9));
    logs.append(app(1), vec![line(1, 1, "one"), line(2, 2, "two"), of_call]).unwrap();
    logs.append(app(2), vec![line(1, 1, "of another app")]).unwrap();
    assert_eq!(*newest.borrow_and_update(), 3);
    let (found, last) = logs.after(app(1), 0, LogFilter::default()).await.unwrap();
    assert_eq!((texts(&found), last), (vec!["one", "two", "three"], 3));
    let by_call = LogFilter { call: Some(CallId::from_u128(9)), ..LogFilter::default() };
    let (found, last) = logs.after(app(1), 1, by_call.clone()).await.unwrap();
    assert_eq!((texts(&found), last), (vec!["three"], 3));

    let logs = AppLogs::new(folder.path().to_owned());
    logs.append(app(1), vec![line(4, 1, "four")]).unwrap();
    let (found, last) = logs.after(app(1), 1, LogFilter::default()).await.unwrap();
    assert_eq!((texts(&found), last), (vec!["two", "three", "four"], 4));
    assert_eq!(logs.after(app(1), 4, LogFilter::default()).await.unwrap(), (vec![], 4));
    assert_eq!(found[0].number, 2);
}

#[tokio::test]
async fn times_are_cut_to_the_newest_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let logs = AppLogs::new(folder.path().to_owned());
    let lines = (0..100).map(|n| line(n * 100, (n % 2 + 1) as u8, &format!("line {n}")));
    logs.append(app(1), lines.collect()).unwrap();
    let found = logs.range(app(1), EVER, LogFilter::default(), 2).await.unwrap();
    assert_eq!(texts(&found), ["line 98", "line 99"]);
    let early =
        TimeRange { since: Timestamp::from_millis(500), until: Timestamp::from_millis(900) };
    let errors = LogFilter { descriptor: Some(2), ..LogFilter::default() };
    let found = logs.range(app(1), early, errors.clone(), 10).await.unwrap();
    assert_eq!(texts(&found), ["line 5", "line 7"]);
    let counts = logs
        .count(app(1), EVER, LogFilter::default(), std::time::Duration::from_secs(5))
        .await
        .unwrap();
    let expect = [(0, [25, 25, 0]), (5_000, [25, 25, 0])];
    assert_eq!(counts, expect.map(|(at, counts)| (Timestamp::from_millis(at), counts)));
}

#[tokio::test]
async fn a_log_is_bounded_and_keeps_its_newest_lines() {
    let folder = tempfile::tempdir().unwrap();
    let logs = AppLogs::new(folder.path().to_owned());
    let text = "x".repeat(60_000);
    for n in 0..1_400u64 {
        logs.append(app(1), vec![line(n, 1, &text)]).unwrap();
    }
    let size: u64 = std::fs::read_dir(folder.path().join(app(1).to_string()))
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(size < 70 << 20, "{size}");
    let (found, last) = logs.after(app(1), 1_398, LogFilter::default()).await.unwrap();
    assert_eq!((found.len(), last), (2, 1_400));
    // Beyond what memory holds, and beyond what the files hold.
    let (found, _) = logs.after(app(1), 1_300, LogFilter::default()).await.unwrap();
    assert_eq!(found[0].number, 1_301);
    let (found, _) = logs.after(app(1), 0, LogFilter::default()).await.unwrap();
    assert!(found[0].number > 200 && found.len() > 500);
}

#[tokio::test]
async fn old_files_go_and_a_line_that_was_cut_off_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let logs = AppLogs::new(folder.path().to_owned());
    logs.append(app(1), vec![line(1, 1, "one")]).unwrap();
    let files = std::fs::read_dir(folder.path().join(app(1).to_string())).unwrap();
    let file = files.map(|file| file.unwrap().path()).next().unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.extend(br#"{"n":2,"at":"#);
    std::fs::write(&file, bytes).unwrap();
    let logs = AppLogs::new(folder.path().to_owned());
    logs.append(app(1), vec![line(2, 1, "two")]).unwrap();
    let found = logs.range(app(1), EVER, LogFilter::default(), 10).await.unwrap();
    assert_eq!(texts(&found), ["one", "two"]);

    let now = Timestamp::now();
    drop(logs);
    let logs = AppLogs::new(folder.path().to_owned());
    logs.forget_old(now).unwrap();
    assert!(folder.path().join(app(1).to_string()).exists());
    logs.forget_old(now.plus(KEPT).plus(std::time::Duration::from_secs(60))).unwrap();
    assert!(!folder.path().join(app(1).to_string()).exists());
}
