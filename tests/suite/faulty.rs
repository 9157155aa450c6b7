//! An HTTP server on the loopback that keeps files in memory and misbehaves as it is told. It answers one request per
//! connection, so that a connection can be cut in the middle of an answer.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is wrong with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Every answer comes this late.
    Slow(Duration),
    /// Every request is answered with this status.
    Status(u16),
    /// Only writing is answered with this status.
    WriteStatus(u16),
    /// Every body has one bit turned over.
    WrongBytes,
    /// Every body ends after so many bytes, with its connection.
    CutAfter(usize),
    /// Only so many bytes come, however many there are, and nothing tells.
    Short(usize),
    /// Every request is answered as by an S3 server that has no such bucket.
    NoBucket,
    /// It accepts and never answers.
    Silent,
    /// What is to be written is never read, and never answered.
    Deaf,
    /// It answers, and writing is never answered.
    SilentWrites,
    /// It answers, and the bytes of objects never come to an end.
    Stuck,
    /// Only whole files are sent, whatever part is asked for.
    NoRange,
    /// Bodies come byte by byte, never silent for long, with no end in sight.
    Trickle,
}

/// A request as the server saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Where the body should begin.
    pub from: Option<usize>,
}

#[derive(Debug)]
struct State {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    fault: Mutex<Fault>,
    requests: Mutex<Vec<Request>>,
    ended: AtomicBool,
}

/// A running server; it ends with the test.
#[derive(Debug)]
pub struct FaultyServer {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl FaultyServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            files: Mutex::default(),
            fault: Mutex::new(Fault::None),
            requests: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let thread = std::thread::spawn({
            let state = Arc::clone(&state);
            move || {
                for stream in listener.incoming().flatten() {
                    if state.ended.load(Ordering::SeqCst) {
                        return;
                    }
                    let state = Arc::clone(&state);
                    std::thread::spawn(move || drop(state.serve(stream)));
                }
            }
        });
        Self {
            address,
            state,
            thread: Some(thread),
        }
    }

    /// The address of a remote on this server.
    pub fn url(&self) -> String {
        format!("http://{}/shared", self.address)
    }

    pub fn set(&self, fault: Fault) {
        *self.state.fault.lock().unwrap() = fault;
    }

    /// What it was asked since the last time.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.requests.lock().unwrap())
    }

    /// The names of its files.
    pub fn files(&self) -> Vec<String> {
        self.state.files.lock().unwrap().keys().cloned().collect()
    }

    /// Changes a file behind everybody's back.
    pub fn change(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        change(self.state.files.lock().unwrap().get_mut(path).unwrap());
    }
}

impl Drop for FaultyServer {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl State {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, path) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let (mut length, mut from) = (0, None);
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
                break;
            }
            let header = header.to_ascii_lowercase();
            let value = |name: &str| header.strip_prefix(name).map(str::trim).map(str::to_owned);
            if let Some(value) = value("content-length:") {
                length = value.parse().unwrap_or(0);
            }
            if let Some(value) = value("range:") {
                from = value
                    .strip_prefix("bytes=")
                    .and_then(|range| range.split('-').next()?.parse().ok());
            }
        }
        let fault = *self.fault.lock().unwrap();
        if fault == Fault::Deaf && method == "PUT" {
            self.requests
                .lock()
                .unwrap()
                .push(Request { method, path, from });
            self.wait_while(fault);
            return Ok(());
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        self.requests.lock().unwrap().push(Request {
            method: method.clone(),
            path: path.clone(),
            from,
        });
        self.answer(stream, fault, &method, &path, from, body)
    }

    fn wait_while(&self, fault: Fault) {
        while !self.ended.load(Ordering::SeqCst) && *self.fault.lock().unwrap() == fault {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn answer(
        &self,
        mut stream: TcpStream,
        fault: Fault,
        method: &str,
        path: &str,
        from: Option<usize>,
        body: Vec<u8>,
    ) -> std::io::Result<()> {
        let is_write = method == "PUT" || method == "DELETE";
        match fault {
            Fault::Slow(delay) => std::thread::sleep(delay),
            Fault::Status(status) => return head(&mut stream, status, 0, None),
            Fault::WriteStatus(status) if is_write => return head(&mut stream, status, 0, None),
            Fault::NoBucket => {
                let page = "<Error><Code>NoSuchBucket</Code><Message>The bucket does not exist</Message></Error>";
                head(&mut stream, 404, page.len(), None)?;
                return stream.write_all(page.as_bytes());
            }
            Fault::SilentWrites if !is_write => {}
            Fault::Silent | Fault::SilentWrites => {
                self.wait_while(fault);
                return Ok(());
            }
            _ => {}
        }
        let from = from.filter(|_| fault != Fault::NoRange);
        match method {
            "PUT" => {
                self.files.lock().unwrap().insert(path.to_owned(), body);
                return head(&mut stream, 201, 0, None);
            }
            "DELETE" => {
                self.files.lock().unwrap().remove(path);
                return head(&mut stream, 204, 0, None);
            }
            "GET" | "HEAD" => {}
            _ => return head(&mut stream, 405, 0, None),
        }
        let Some(mut file) = self.files.lock().unwrap().get(path).cloned() else {
            return head(&mut stream, 404, 0, None);
        };
        if method == "HEAD" {
            return head(&mut stream, 200, file.len(), None);
        }
        if fault == Fault::WrongBytes {
            let middle = file.len() / 2;
            file[middle] ^= 1;
        }
        if let Fault::Short(most) = fault {
            file.truncate(most);
        }
        let whole = file.len();
        let rest = &file[from.unwrap_or(0).min(whole)..];
        let status = if from.is_some() { 206 } else { 200 };
        head(
            &mut stream,
            status,
            rest.len(),
            from.map(|from| (from, whole)),
        )?;
        match fault {
            Fault::CutAfter(most) if rest.len() > most => stream.write_all(&rest[..most]),
            Fault::Stuck if path.contains("/objects/") => {
                stream.write_all(&rest[..rest.len() / 2])?;
                self.wait_while(fault);
                Ok(())
            }
            Fault::Trickle => rest.iter().try_for_each(|byte| {
                std::thread::sleep(Duration::from_millis(50));
                stream.write_all(&[*byte])
            }),
            _ => stream.write_all(rest),
        }
    }
}

fn head(
    stream: &mut TcpStream,
    status: u16,
    length: usize,
    range: Option<(usize, usize)>,
) -> std::io::Result<()> {
    let range = range.map_or_else(String::new, |(from, whole)| {
        format!(
            "Content-Range: bytes {from}-{}/{whole}\r\n",
            whole.saturating_sub(1)
        )
    });
    let fixed =
        "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nETag: \"x\"\r\nConnection: close\r\n";
    write!(
        stream,
        "HTTP/1.1 {status} Status\r\nContent-Length: {length}\r\n{range}{fixed}\r\n"
    )
}
