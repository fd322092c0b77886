//! What the listings show of a thing: docker's fields, in docker's words.

use crate::output::human;
use crate::output::listing::Listing;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// `ps`.
pub const CONTAINERS: Listing<'static> = Listing {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    quiet: "ID",
    heads: &[
        ("ID", "CONTAINER ID"),
        ("RunningFor", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("LocalVolumes", "LOCAL VOLUMES"),
    ],
};

/// `ps -s`.
pub const CONTAINERS_AND_SIZES: Listing<'static> = Listing {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}",
    ..CONTAINERS
};

/// `images`.
pub const IMAGES: Listing<'static> = Listing {
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    quiet: "ID",
    heads: &[("ID", "IMAGE ID"), ("CreatedSince", "CREATED"), ("CreatedAt", "CREATED AT")],
};

/// `images --digests`.
pub const IMAGES_AND_DIGESTS: Listing<'static> = Listing {
    table: "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    ..IMAGES
};

/// `volume ls`.
pub const VOLUMES: Listing<'static> =
    Listing { table: "{{.Driver}}\t{{.Name}}", quiet: "Name", heads: &[("Name", "VOLUME NAME")] };

/// `network ls`.
pub const NETWORKS: Listing<'static> = Listing {
    table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    quiet: "ID",
    heads: &[("ID", "NETWORK ID"), ("CreatedAt", "CREATED AT")],
};

/// `network flows`.
pub const FLOWS: Listing<'static> = Listing {
    table: "{{.Protocol}}\t{{.Direction}}\t{{.Container}}\t{{.Remote}}\t{{.State}}\t{{.Sent}}\t{{.Received}}\t{{.RTT}}\t{{.Retransmits}}",
    quiet: "Container",
    heads: &[],
};

/// A line of `ps`.
#[derive(Clone, Debug)]
pub struct ContainerRow<'a> {
    /// The whole id.
    pub id: &'a str,
    /// The image as the user named it.
    pub image: &'a str,
    /// The command line.
    pub command: &'a [String],
    /// When it was created.
    pub created: SystemTime,
    /// What it is doing.
    pub phase: Phase,
    /// Its name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Sources of its mounts: names of volumes and paths of the host.
    pub mounts: Vec<String>,
    /// How many of them are volumes.
    pub volumes: usize,
    /// Its networks.
    pub networks: String,
    /// Its published ports.
    pub ports: String,
    /// With `-s`: bytes that it has written, and bytes together with its image.
    pub size: Option<(u64, u64)>,
}

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It has never run.
    Created,
    /// It runs, since then.
    Running(SystemTime),
    /// It runs since then, and is frozen.
    Paused(SystemTime),
    /// It has ended, with this code, then if anybody saw it.
    Exited(i32, Option<SystemTime>),
    /// Its record cannot be read.
    Broken,
}

impl Phase {
    /// docker's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running(_) => "running",
            Self::Paused(_) => "paused",
            Self::Exited(..) => "exited",
            Self::Broken => "dead",
        }
    }

    /// docker's sentence.
    pub fn sentence(self, now: SystemTime) -> String {
        match self {
            Self::Created => "Created".into(),
            Self::Running(since) => {
                format!("Up {}", human::duration(now.duration_since(since).unwrap_or_default()))
            }
            Self::Paused(since) => format!("{} (Paused)", Self::Running(since).sentence(now)),
            Self::Exited(code, Some(at)) => format!("Exited ({code}) {}", human::ago(at, now)),
            Self::Exited(code, None) => format!("Exited ({code})"),
            Self::Broken => "Dead (its record cannot be read)".into(),
        }
    }
}

impl ContainerRow<'_> {
    /// Its fields.
    pub fn fields(&self, now: SystemTime, no_trunc: bool) -> Value {
        let command = self.command.join(" ");
        let (id, command) = match no_trunc {
            true => (self.id, command),
            false => (shorten_id(self.id), ellipsis(&command, 20)),
        };
        let size = self.size.map_or_else(String::new, |(own, whole)| {
            format!("{} (virtual {})", human::size(own), human::size(whole))
        });
        json!({
            "ID": id,
            "Image": self.image,
            "Command": Value::from(command).to_string(),
            "CreatedAt": human::date(self.created),
            "RunningFor": human::ago(self.created, now),
            "Ports": self.ports,
            "State": self.phase.word(),
            "Status": self.phase.sentence(now),
            "Size": size,
            "Names": self.name,
            "Labels": joined(self.labels),
            "Label": self.labels,
            "Mounts": self.mounts.join(","),
            "LocalVolumes": self.volumes.to_string(),
            "Networks": self.networks,
        })
    }
}

/// A line of `images`: an image has one for each of its names, and one without if it has none.
#[derive(Clone, Debug)]
pub struct ImageRow<'a> {
    /// The whole id: a digest's 64 digits.
    pub id: &'a str,
    /// The repository's name.
    pub repository: Option<&'a str>,
    /// The tag.
    pub tag: Option<&'a str>,
    /// The manifest's digest.
    pub digest: Option<String>,
    /// When it was made.
    pub created: Option<SystemTime>,
    /// Bytes of its layers.
    pub size: u64,
    /// How many containers are made from it.
    pub containers: usize,
}

impl ImageRow<'_> {
    /// Its fields.
    pub fn fields(&self, now: SystemTime, no_trunc: bool) -> Value {
        let id = if no_trunc { format!("sha256:{}", self.id) } else { shorten_id(self.id).to_owned() };
        let none = "<none>";
        json!({
            "ID": id,
            "Repository": self.repository.unwrap_or(none),
            "Tag": self.tag.unwrap_or(none),
            "Digest": self.digest.as_deref().unwrap_or(none),
            "CreatedAt": self.created.map_or_else(|| "N/A".into(), human::date),
            "CreatedSince": self.created.map_or_else(|| "N/A".into(), |at| human::ago(at, now)),
            "Size": human::size(self.size),
            "Containers": self.containers.to_string(),
            "SharedSize": "N/A",
            "UniqueSize": "N/A",
        })
    }
}

/// A line of `volume ls`.
#[derive(Clone, Debug)]
pub struct VolumeRow<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its folder.
    pub mountpoint: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

impl VolumeRow<'_> {
    /// Its fields.
    pub fn fields(&self) -> Value {
        json!({
            "Name": self.name,
            "Driver": "local",
            "Scope": "local",
            "Mountpoint": self.mountpoint,
            "Labels": joined(self.labels),
            "Label": self.labels,
            "Availability": "N/A",
            "Group": "N/A",
            "Links": "N/A",
            "Size": "N/A",
            "Status": "N/A",
        })
    }
}

/// An id as listings show it.
pub fn shorten_id(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn joined(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// At most `most` characters, the last of them an ellipsis if some had to go.
pub fn ellipsis(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::listing::Style;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn a_row_of_ps_reads_as_dockers() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let command = ["sh", "-c", "sleep 1000000; echo"].map(str::to_owned);
        let row = ContainerRow {
            id: "0123456789abcdef0123456789abcdef",
            image: "debian",
            command: &command,
            created: now - Duration::from_secs(7200),
            phase: Phase::Running(now - Duration::from_secs(60)),
            name: "web",
            labels: &labels,
            mounts: vec!["data".into(), "/a".into()],
            volumes: 1,
            networks: "none".into(),
            ports: String::new(),
            size: Some((1500, 7_800_000)),
        };
        let rows = [row.fields(now, false)];
        assert_eq!(
            CONTAINERS_AND_SIZES.render(&rows, Style::default()).unwrap(),
            "CONTAINER ID   IMAGE     COMMAND                  CREATED       STATUS              PORTS     NAMES     SIZE\n\
             0123456789ab   debian    \"sh -c sleep 1000000…\"   2 hours ago   Up About a minute             web       1.5kB (virtual 7.8MB)\n"
        );
        let own = Style { format: Some("{{.Label \"a\"}} {{.Labels}} {{.State}}"), ..Style::default() };
        assert_eq!(CONTAINERS.render(&rows, own).unwrap(), "1 a=1 running\n");
    }

    #[test]
    fn a_container_that_has_ended_says_how_and_when() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let at = now - Duration::from_secs(5);
        assert_eq!(Phase::Exited(0, Some(at)).sentence(now), "Exited (0) 5 seconds ago");
        assert_eq!(Phase::Exited(137, None).sentence(now), "Exited (137)");
        assert_eq!(Phase::Created.sentence(now), "Created");
        assert_eq!(Phase::Paused(at).sentence(now), "Up 5 seconds (Paused)");
    }

    #[test]
    fn an_image_without_a_name_says_so() {
        let row = ImageRow {
            id: "0123456789abcdef",
            repository: None,
            tag: None,
            digest: None,
            created: None,
            size: 117_000_000,
            containers: 0,
        };
        let text = IMAGES.render(&[row.fields(UNIX_EPOCH, false)], Style::default()).unwrap();
        assert_eq!(
            text,
            "REPOSITORY   TAG       IMAGE ID       CREATED   SIZE\n\
             <none>       <none>    0123456789ab   N/A       117MB\n"
        );
    }
}
