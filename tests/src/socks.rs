//! A SOCKS5 proxy on loopback (RFC 1928, RFC 1929), in the process of the story: it connects, and counts.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// A running proxy; dropped means closed, with everything that goes through it.
#[derive(Debug)]
pub struct SocksProxy {
    address: SocketAddr,
    log: Arc<Mutex<SocksLog>>,
    _task: AbortOnDropHandle<()>,
}

/// What a proxy was asked for.
#[derive(Debug, Clone, Default)]
pub struct SocksLog {
    /// Where it was asked to connect to, as it was said: an address or a name, with a port.
    pub targets: Vec<String>,
    /// Clients turned away for their name or password.
    pub refused: usize,
}

impl SocksProxy {
    /// Starts one; with a user's name and password it serves nobody else.
    pub async fn start(account: Option<(&'static str, &'static str)>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap_or_else(|e| panic!("proxy: {e}"));
        let address = listener.local_addr().unwrap_or_else(|e| panic!("proxy: {e}"));
        let log = Arc::new(Mutex::new(SocksLog::default()));
        let task = tokio::spawn(accept(listener, account, Arc::clone(&log)));
        Self { address, log, _task: AbortOnDropHandle::new(task) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was asked for so far.
    pub fn log(&self) -> SocksLog {
        self.log.lock().clone()
    }

    /// How often it was asked to connect to an address.
    pub fn led_to(&self, target: SocketAddr) -> usize {
        self.log.lock().targets.iter().filter(|said| **said == target.to_string()).count()
    }
}

async fn accept(listener: TcpListener, account: Option<(&'static str, &'static str)>, log: Arc<Mutex<SocksLog>>) {
    // Dropped with this task, and so are those that it serves.
    let mut clients = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let log = Arc::clone(&log);
        clients.spawn(async move {
            // A client that leaves early is no concern of the proxy.
            let _ = serve(client, account, &log).await;
        });
    }
}

async fn serve(mut client: TcpStream, account: Option<(&str, &str)>, log: &Mutex<SocksLog>) -> std::io::Result<()> {
    let _version = client.read_u8().await?;
    let mut methods = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut methods).await?;
    match account {
        None => client.write_all(&[5, 0]).await?,
        Some(_) if !methods.contains(&2) => {
            log.lock().refused += 1;
            return client.write_all(&[5, 0xFF]).await;
        }
        Some((user, password)) => {
            client.write_all(&[5, 2]).await?;
            let _version = client.read_u8().await?;
            let said = (text(&mut client).await?, text(&mut client).await?);
            if said != (user.to_owned(), password.to_owned()) {
                log.lock().refused += 1;
                return client.write_all(&[1, 1]).await;
            }
            client.write_all(&[1, 0]).await?;
        }
    }
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    let host = match request[3] {
        1 => Ipv4Addr::from(client.read_u32().await?).to_string(),
        3 => text(&mut client).await?,
        _ => format!("[{}]", std::net::Ipv6Addr::from(client.read_u128().await?)),
    };
    let target = format!("{host}:{}", client.read_u16().await?);
    log.lock().targets.push(target.clone());
    let Ok(mut server) = TcpStream::connect(target).await else {
        return client.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]).await;
    };
    client.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0]).await?;
    copy_bidirectional(&mut client, &mut server).await.map(|_| ())
}

/// A text behind its length in one byte.
async fn text(client: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
