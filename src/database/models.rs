//! The models of a database: versions of a name, each a file.

use std::path::PathBuf;

use super::{Database, check_name, names, what_there_is};
use crate::collection::Collection;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::store;

/// The longest name, in bytes: with version and ending, that of the file has to fit into an archive of
/// a snapshot, which leaves 100.
const MAX_MODEL_NAME_BYTES: usize = 64;

impl Database {
    /// Keeps a model under a name, as its next version, and returns `name@version`. A model whose
    /// digest is there already under that name is not kept twice.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// # let values = (0..400).map(|i| (i as f32 * 0.7).sin()).collect();
    /// # let inputs = nearbit::Inputs::Vectors(nearbit::Matrix::new(50, 8, values));
    /// # let options = nearbit::model::TrainOptions {
    /// #     bits: nearbit::Width::new(6)?,
    /// #     epochs: Some(1),
    /// #     ..nearbit::model::TrainOptions::preset(nearbit::model::Preset::Vector)
    /// # };
    /// # let model = nearbit::model::train(&inputs, &options, &mut |_| std::ops::ControlFlow::Continue(()))?;
    ///
    /// use nearbit::{CollectionSettings, EncoderSpec};
    ///
    /// assert_eq!(database.add_model("waves", &model)?, "waves@1");
    /// assert_eq!(database.add_model("waves", &model)?, "waves@1"); // not kept twice
    /// let settings = CollectionSettings::new(EncoderSpec::Model("waves".to_owned()));
    /// assert_eq!(database.create_collection("curves", &settings)?.width().bits(), 6);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A name that is not allowed, or a disk that does not answer.
    pub fn add_model(&self, name: &str, model: &Model) -> Result<String> {
        check_name("model", name, MAX_MODEL_NAME_BYTES)?;
        let _one_at_a_time = self.making_locked();
        let versions = self.versions(name)?;
        for &version in &versions {
            if Model::load(self.model_file(name, version))?.digest() == model.digest() {
                return Ok(format!("{name}@{version}"));
            }
        }
        let version = versions.last().map_or(1, |last| last + 1);
        model.save(self.model_file(name, version))?;
        Ok(format!("{name}@{version}"))
    }

    /// The model `name@version`, or the last version of `name`.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// # let values = (0..400).map(|i| (i as f32 * 0.7).sin()).collect();
    /// # let inputs = nearbit::Inputs::Vectors(nearbit::Matrix::new(50, 8, values));
    /// # let options = nearbit::model::TrainOptions {
    /// #     bits: nearbit::Width::new(6)?,
    /// #     epochs: Some(1),
    /// #     ..nearbit::model::TrainOptions::preset(nearbit::model::Preset::Vector)
    /// # };
    /// # let model = nearbit::model::train(&inputs, &options, &mut |_| std::ops::ControlFlow::Continue(()))?;
    ///
    /// database.add_model("waves", &model)?;
    /// assert_eq!(database.model("waves")?.digest(), model.digest());
    /// assert_eq!(database.model("waves@1")?.digest(), model.digest());
    /// assert!(database.model("waves@2").is_err());
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// There is none, or its file is damaged.
    pub fn model(&self, name: &str) -> Result<Model> {
        let (name, version) = self.resolve_model(name)?;
        Model::load(self.model_file(&name, version))
    }

    /// Every model, as `name@version`, by name and version.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// assert!(database.models()?.is_empty());
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A disk that does not answer.
    pub fn models(&self) -> Result<Vec<String>> {
        let models = self.model_versions()?;
        Ok(models.into_iter().map(|(name, version)| format!("{name}@{version}")).collect())
    }

    /// Deletes a model, named with its version, as `name@version`. What a collection encodes with is
    /// kept.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// # let values = (0..400).map(|i| (i as f32 * 0.7).sin()).collect();
    /// # let inputs = nearbit::Inputs::Vectors(nearbit::Matrix::new(50, 8, values));
    /// # let options = nearbit::model::TrainOptions {
    /// #     bits: nearbit::Width::new(6)?,
    /// #     epochs: Some(1),
    /// #     ..nearbit::model::TrainOptions::preset(nearbit::model::Preset::Vector)
    /// # };
    /// # let model = nearbit::model::train(&inputs, &options, &mut |_| std::ops::ControlFlow::Continue(()))?;
    /// use nearbit::{CollectionSettings, EncoderSpec};
    ///
    /// database.add_model("waves", &model)?;
    /// let settings = CollectionSettings::new(EncoderSpec::Model("waves".to_owned()));
    /// database.create_collection("curves", &settings)?;
    /// let error = database.delete_model("waves@1").unwrap_err().to_string();
    /// assert!(error.contains("curves"), "{error}");
    ///
    /// database.delete_collection("curves")?;
    /// database.delete_model("waves@1")?;
    /// assert!(database.models()?.is_empty());
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// There is none, or no version is named; a collection that encodes with it, or that could not be
    /// opened, for it may; a disk that does not answer.
    pub fn delete_model(&self, name: &str) -> Result<()> {
        let _one_at_a_time = self.making_locked();
        let (plain, version) = self.resolve_model(name)?;
        let model = format!("{plain}@{version}");
        if name != model {
            let message = format!("expected a name with a version, such as {model}, got {name:?}");
            return Err(Error::invalid("model", message));
        }
        if let Some((_, error)) = self.unopened().into_iter().next() {
            return Err(error);
        }
        let mut users = self.collections();
        users.retain(|collection| collection.info().encoder.model() == Some(model.as_str()));
        if !users.is_empty() {
            let users: Vec<&str> = users.iter().map(Collection::name).collect();
            let message = format!("{model} encodes for {}; delete that first", users.join(", "));
            return Err(Error::invalid("model", message));
        }
        store::remove_file(&self.model_file(&plain, version))
    }

    pub(super) fn model_file(&self, name: &str, version: u32) -> PathBuf {
        self.inner.dir.join("models").join(format!("{name}@{version}.safetensors"))
    }

    /// Every (name, version) in the folder of models, ascending.
    fn model_versions(&self) -> Result<Vec<(String, u32)>> {
        let mut versions: Vec<(String, u32)> = names(&self.inner.dir.join("models"))?
            .iter()
            .filter_map(|file| {
                let (name, version) = file.strip_suffix(".safetensors")?.rsplit_once('@')?;
                Some((name.to_owned(), version.parse().ok()?))
            })
            .collect();
        versions.sort();
        Ok(versions)
    }

    /// The versions of a model, ascending.
    fn versions(&self, name: &str) -> Result<Vec<u32>> {
        let all = self.model_versions()?;
        Ok(all.into_iter().filter(|(n, _)| n == name).map(|(_, version)| version).collect())
    }

    /// The name and version that `name` or `name@version` means.
    pub(super) fn resolve_model(&self, name: &str) -> Result<(String, u32)> {
        let all = self.model_versions()?;
        let wanted = |(n, version): &&(String, u32)| {
            n == name || name.rsplit_once('@') == Some((n.as_str(), &version.to_string()))
        };
        all.iter().rfind(wanted).cloned().ok_or_else(|| {
            let known: Vec<String> = all.iter().map(|(n, v)| format!("{n}@{v}")).collect();
            Error::not_found("model", name, what_there_is(&known))
        })
    }
}
