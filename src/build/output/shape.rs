//! From what the last step left to the image.

use crate::build::cache::{Cache, Made, key, layers_text};
use crate::digest::Digest;
use crate::image::{Documents, Error, History, ImageConfig, ManifestStyle, Steps, inline_cache};
use crate::layers::{LayerStore, Times};
use crate::timestamp::Timestamp;
use std::collections::BTreeMap;

/// What the image is to be beyond what the Dockerfile says.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// `--format`: whose manifest.
    pub style: ManifestStyle,
    /// `--annotation`: of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--env`: of the image, over what the Dockerfile says.
    pub env: Vec<(String, String)>,
    /// `--unsetenv`.
    pub unset_env: Vec<String>,
    /// `--unsetlabel`.
    pub unset_labels: Vec<String>,
    /// `--squash`, `--squash-all`.
    pub squash: Squash,
    /// `--omit-history`.
    pub omit_history: bool,
    /// Which times it tells.
    pub clock: Clock,
    /// `--cache-to type=inline`: the manifest says what the steps made.
    pub inline_cache: bool,
}

/// Which layers become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Squash {
    /// None.
    #[default]
    Nothing,
    /// Those that the build made.
    New,
    /// Those of the base image too.
    All,
}

/// Which times an image tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// When its steps were carried out.
    #[default]
    Real,
    /// `--source-date-epoch`: this one; with `--rewrite-timestamp` no file of a new layer is later.
    Epoch {
        /// In seconds since 1970.
        seconds: i64,
        /// Whether files' times count.
        files: bool,
    },
    /// `--timestamp`: this one, in seconds since 1970, and all files of new layers have it.
    Fixed(i64),
}

impl Clock {
    fn seconds(self) -> Option<i64> {
        match self {
            Clock::Real => None,
            Clock::Epoch { seconds, .. } | Clock::Fixed(seconds) => Some(seconds),
        }
    }

    fn of_files(self) -> Times {
        match self {
            Clock::Epoch { seconds, files: true } => Times::ClampedTo(seconds),
            Clock::Fixed(seconds) => Times::SetTo(seconds),
            Clock::Real | Clock::Epoch { files: false, .. } => Times::Kept,
        }
    }

    /// What all files have that leave as files (BuildKit's exporters).
    pub fn of_output(self) -> Option<i64> {
        self.seconds()
    }
}

impl Shape {
    /// Makes the image of what the build and its steps left over the layers and the history of its base image. This process is root in
    /// the user's namespace; the caller holds an image pin.
    pub fn make(
        &self,
        mut image: ImageConfig,
        base: Option<&ImageConfig>,
        steps: &Steps,
        layers: &LayerStore,
        cache: &Cache<'_>,
    ) -> Result<Documents, Error> {
        let none = ImageConfig::default();
        let base = base.filter(|base| is_base(base, &image)).unwrap_or(&none);
        self.describe(&mut image);
        self.relayer(&mut image, base, layers, cache)?;
        self.date(&mut image, base.history.len());
        if self.omit_history {
            image.history.clear();
        }
        let mut annotations = self.annotations.clone();
        if self.inline_cache {
            annotations.extend([inline_cache(steps)?]);
        }
        Documents::of(&image, self.style, &annotations, layers)
    }

    /// Whether layers are made that no step has made.
    pub fn changes_layers(&self) -> bool {
        self.squash != Squash::Nothing || self.clock.of_files() != Times::Kept
    }

    fn describe(&self, image: &mut ImageConfig) {
        let config = &mut image.config;
        let name = |entry: &String| entry.split('=').next().unwrap_or_default().to_owned();
        config.env.retain(|entry| !self.unset_env.contains(&name(entry)));
        for (variable, value) in &self.env {
            let new = format!("{variable}={value}");
            match config.env.iter_mut().find(|entry| name(entry) == *variable) {
                Some(entry) => *entry = new,
                None => config.env.push(new),
            }
        }
        config.labels.retain(|label, _| !self.unset_labels.contains(label));
        config.labels.extend(self.labels.clone());
    }

    fn relayer(
        &self,
        image: &mut ImageConfig,
        base: &ImageConfig,
        layers: &LayerStore,
        cache: &Cache<'_>,
    ) -> Result<(), Error> {
        let times = self.clock.of_files();
        let all = std::mem::take(&mut image.rootfs.diff_ids);
        let (old, new) = all.split_at(base.rootfs.diff_ids.len());
        let (below, squashed) = match self.squash {
            Squash::Nothing => {
                let mut made = old.to_vec();
                for layer in new {
                    made.push(retimed(&made, *layer, times, layers, cache)?);
                }
                image.rootfs.diff_ids = made;
                return Ok(());
            }
            Squash::New => (old, new),
            Squash::All => (&[][..], &all[..]),
        };
        let whole = match squashed {
            [] => None,
            _ => layers.squash(below, squashed, times)?.map(|layer| layer.diff_id),
        };
        image.rootfs.diff_ids = below.iter().copied().chain(whole).collect();
        let old_entries = if below.is_empty() { 0 } else { base.history.len() };
        for entry in image.history.iter_mut().skip(old_entries) {
            entry.empty_layer = true;
        }
        let comment = format!("{} layers made one", squashed.len());
        let created = image.created.clone();
        image.history.push(History { created, comment, empty_layer: whole.is_none(), ..History::default() });
        Ok(())
    }

    /// Gives the image and its history the time that was asked for: what is new has it, what is old is not later.
    fn date(&self, image: &mut ImageConfig, inherited: usize) {
        let Some(seconds) = self.clock.seconds() else { return };
        let given = Timestamp::from_unix(seconds, 0);
        for (at, entry) in image.history.iter_mut().enumerate() {
            let own = entry.created.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
            if at >= inherited || own.is_none_or(|own| own > given) {
                entry.created = Some(given.to_string());
            }
        }
        image.created = Some(given.to_string());
    }
}

/// Whether the image is made over this one.
fn is_base(base: &ImageConfig, image: &ImageConfig) -> bool {
    image.rootfs.diff_ids.starts_with(&base.rootfs.diff_ids) && image.history.starts_with(&base.history)
}

/// The layer with other times, made once.
fn retimed(
    below: &[Digest],
    layer: Digest,
    times: Times,
    layers: &LayerStore,
    cache: &Cache<'_>,
) -> Result<Digest, Error> {
    if times == Times::Kept {
        return Ok(layer);
    }
    let text = "a layer with other times";
    let key = key(&["retimed", &layers_text(below), &layer.hex(), &format!("{times:?}")]);
    if let Some(Made { layer: Some(made), .. }) = cache.find_here(key, layers) {
        return Ok(made);
    }
    // One that says nothing over the layers below stays what it is.
    let made = layers.retimed(below, layer, times)?.map_or(layer, |made| made.diff_id);
    cache.remember(key, &Made { layer: Some(made), ..Made::default() }, text)?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(created: &str, empty_layer: bool) -> History {
        History { created: Some(created.into()), empty_layer, ..History::default() }
    }

    fn dated(clock: Clock) -> Vec<String> {
        let history = vec![
            entry("2001-01-01T00:00:00Z", false),
            entry("2030-01-01T00:00:00.5Z", true),
            entry("2001-01-01T00:00:00Z", false),
        ];
        let mut image = ImageConfig { history, ..ImageConfig::default() };
        Shape { clock, ..Shape::default() }.date(&mut image, 2);
        image.history.into_iter().filter_map(|entry| entry.created).chain(image.created).collect()
    }

    #[test]
    fn a_given_time_is_that_of_all_that_is_new_and_the_latest_of_the_old() {
        let given = "2020-09-13T12:26:40.000000000Z";
        for clock in [Clock::Epoch { seconds: 1_600_000_000, files: false }, Clock::Fixed(1_600_000_000)] {
            assert_eq!(dated(clock), ["2001-01-01T00:00:00Z", given, given, given]);
        }
        assert_eq!(dated(Clock::Real)[1], "2030-01-01T00:00:00.5Z");
    }

    #[test]
    fn what_is_unset_goes_before_labels_are_given() {
        let mut image = ImageConfig::default();
        image.config.env = vec!["A=1".into(), "AB=2".into()];
        image.config.labels = BTreeMap::from([("x".into(), "old".into()), ("y".into(), "old".into())]);
        let shape = Shape {
            unset_env: vec!["A".into()],
            unset_labels: vec!["x".into(), "y".into()],
            labels: BTreeMap::from([("y".into(), "new".into())]),
            ..Shape::default()
        };
        shape.describe(&mut image);
        assert_eq!(image.config.env, ["AB=2"]);
        assert_eq!(image.config.labels, BTreeMap::from([("y".into(), "new".into())]));
    }
}
