//! Which options go together, and within which ranges.

use super::{Binarize, Corruption, Procedure, Sparsity, TrainOptions};
use crate::error::{Error, Result};

/// The least memory for rows: 1 MiB.
const LEAST_MEMORY: u64 = 1 << 20;

impl TrainOptions {
    /// An error that names the first option out of its range, or the first two that exclude one
    /// another.
    pub fn check(&self) -> Result<()> {
        self.check_ranges()?;
        self.check_nested()?;
        self.check_settle()?;
        self.check_members()?;
        self.check_goals()?;
        self.check_code_layer()?;
        self.check_starts()?;
        match self.procedure {
            Procedure::Backpropagation => Ok(()),
            Procedure::Recirculation => self.check_recirculation(),
        }
    }

    fn check_ranges(&self) -> Result<()> {
        for (name, sizes) in [("hidden", Some(&self.hidden)), ("decoder", self.decoder.as_ref())] {
            for (i, size) in sizes.into_iter().flatten().enumerate() {
                integer(&format!("{name}[{i}]"), *size, 1, 65_536)?;
            }
            integer(&format!("{name} layers"), sizes.map_or(0, Vec::len), 0, 16)?;
        }
        if let Some(epochs) = self.epochs {
            integer("epochs", epochs, 1, 100_000)?;
        }
        if let Some(memory) = &self.memory
            && memory.bytes < LEAST_MEMORY
        {
            let message = format!("expected at least {LEAST_MEMORY} bytes, got {}", memory.bytes);
            return Err(Error::invalid("memory", message));
        }
        integer("batch", self.batch, 2, 65_536)?;
        number("learning rate", self.learning_rate, f64::MIN_POSITIVE, 10.0)?;
        number("warm-up", self.warm_up, 0.0, 1.0)?;
        number("final rate", self.final_rate, 0.0, 1.0)?;
        if let Some(clip) = self.clip {
            number("clip", clip, f64::MIN_POSITIVE, f64::MAX)?;
        }
        number("weight decay", self.weight_decay, 0.0, 1.0)?;
        number("validation", self.validation, 0.0, 0.9)?;
        number("reconstruction", self.reconstruction, 0.0, 1e6)?;
        number("contraction", self.contraction, 0.0, 1e6)?;
        if let Some(hold) = self.settle {
            number("settle", hold, 0.0, 1e6)?;
        }
        number("prior", self.prior, 0.0, 1e6)?;
        number("dropout", self.dropout, 0.0, 0.9)?;
        if let Binarize::Noise { start, end } = self.binarize {
            number("noise start", start, 0.0, 1e3)?;
            number("noise end", end, 0.0, 1e3)?;
        }
        match self.corruption {
            Some(Corruption::Masking(share) | Corruption::SaltAndPepper(share)) => {
                number("corruption", share, 0.0, 0.99)?;
            }
            Some(Corruption::Gaussian(deviation)) => number("corruption", deviation, 0.0, 1e3)?,
            None => {}
        }
        match self.sparsity {
            Some(Sparsity::L1 { weight }) => number("sparsity", weight, 0.0, 1e6)?,
            Some(Sparsity::Kl { weight, target }) => {
                number("sparsity", weight, 0.0, 1e6)?;
                number("sparsity target", target, 0.001, 0.999)?;
            }
            Some(Sparsity::Top(active)) => {
                // As many as there are would say nothing.
                integer("active bits", active, 1, self.bits.bits().saturating_sub(1))?;
            }
            None => {}
        }
        if let Some(pretraining) = self.pretraining {
            integer("pretraining epochs", pretraining.epochs, 1, 100_000)?;
            let rate = pretraining.learning_rate;
            number("pretraining learning rate", rate, f64::MIN_POSITIVE, 10.0)?;
        }
        if let Some(similarity) = self.similarity {
            number("similarity", similarity.weight, f64::MIN_POSITIVE, 1e6)?;
            number("similarity temperature", similarity.temperature, 1e-3, 100.0)?;
        }
        if let Some(neighbours) = self.neighbours {
            integer("neighbours", neighbours.count, 1, 1000)?;
            if let Some(walk) = neighbours.walk {
                integer("walk", walk, 1, 1000)?;
            }
            number("contrast", neighbours.contrast, 0.0, 1e6)?;
            number("temperature", neighbours.temperature, 0.05, 100.0)?;
            number("neighbour reconstruction", neighbours.reconstruction, 0.0, 1e6)?;
            number("learned neighbours", neighbours.learned, 0.0, 1.0)?;
        }
        Ok(())
    }

    /// Nested widths rise to the code's, and every part of the training knows what a prefix is.
    fn check_nested(&self) -> Result<()> {
        if self.nested.is_empty() {
            return Ok(());
        }
        let widths = [&[0], &self.nested[..], &[self.bits.bits()]].concat();
        if !widths.is_sorted_by(|a, b| a < b) {
            let message = format!(
                "expected rising widths from 1 to below {}, got {:?}",
                self.bits, self.nested
            );
            return Err(Error::invalid("nested", message));
        }
        refuse(
            matches!(self.sparsity, Some(Sparsity::Top(_))),
            "nested",
            "the first bits of a code have no fixed number of ones; take L1 or KL to keep units quiet",
        )
    }

    /// Where bits settle together, any bit may turn, and the code is used whole.
    fn check_settle(&self) -> Result<()> {
        if self.settle.is_none() {
            return Ok(());
        }
        refuse(
            !self.nested.is_empty(),
            "settle",
            "bits settle in the company of all others, so the first of them are no code of their own; \
             leave out the nested widths",
        )?;
        refuse(
            matches!(self.sparsity, Some(Sparsity::Top(_))) && self.sparse_layer.is_none(),
            "settle",
            "a code with a fixed number of ones has none to turn; take L1 or KL to keep units quiet",
        )
    }

    /// Members can stand side by side.
    fn check_members(&self) -> Result<()> {
        if let Some(most) = self.member_bits {
            integer("member bits", most, 1, 1024)?;
        }
        match self.wants_whole() {
            Some(what) if self.members() > 1 => Err(Error::invalid(
                "member bits",
                format!(
                    "a code of {} from members of at most {} goes without {what}; learn it whole, or \
                     leave that out",
                    self.bits,
                    self.member_bits.unwrap_or_default()
                ),
            )),
            _ => Ok(()),
        }
    }

    /// What is asked for that only a code has which is learned whole, if anything.
    pub fn wants_whole(&self) -> Option<&'static str> {
        let wishes = [
            ("nested widths", !self.nested.is_empty()),
            ("hidden layers", !self.hidden.is_empty() || !self.decoder_hidden().is_empty()),
            ("a start from ITQ", self.start_from_itq),
            ("a fixed number of ones", matches!(self.sparsity, Some(Sparsity::Top(_)))),
            ("a Gaussian code", self.binarize == Binarize::Gaussian),
        ];
        wishes.into_iter().find(|(_, wished)| *wished).map(|(what, _)| what)
    }

    /// There is something to learn, and something to judge it by.
    fn check_goals(&self) -> Result<()> {
        let reconstruction =
            self.reconstruction + self.neighbours.map_or(0.0, |n| n.reconstruction);
        let contrast = self.neighbours.map_or(0.0, |n| n.contrast);
        refuse(
            reconstruction + contrast == 0.0 && self.similarity.is_none(),
            "reconstruction",
            "every loss has weight 0, so there is nothing to learn; give reconstruction or contrast \
             a weight above 0",
        )?;
        refuse(
            self.patience.is_some() && self.validation == 0.0,
            "patience",
            "early stopping judges by validation rows, and validation is 0; give it a share such as \
             0.05",
        )?;
        refuse(
            self.prior > 0.0 && reconstruction == 0.0,
            "prior",
            "it stands beside a reconstruction, whose weight is 0; give reconstruction a weight \
             above 0",
        )
    }

    /// What is asked of the code layer and of hidden layers, they can do.
    fn check_code_layer(&self) -> Result<()> {
        let is_stochastic = matches!(self.binarize, Binarize::Sample | Binarize::Gaussian);
        refuse(
            self.prior > 0.0 && !is_stochastic,
            "prior",
            "only a stochastic code has a distribution to compare with a prior; take a code layer \
             that samples or is Gaussian",
        )?;
        refuse(
            self.dropout > 0.0 && self.hidden.is_empty() && self.decoder_hidden().is_empty(),
            "dropout",
            "it leaves out hidden units, and there is no hidden layer; add one",
        )?;
        refuse(
            self.dropout > 0.0 && self.contraction > 0.0 && !self.hidden.is_empty(),
            "contraction",
            "with hidden layers it compares two passes through the encoder, which dropout would make \
             two encoders; leave one of the two out",
        )?;
        if let Some(layer) = self.sparse_layer {
            refuse(self.sparsity.is_none(), "sparse layer", "no kind of sparsity is given for it")?;
            integer("sparse layer", layer, 1, self.hidden.len())?;
        }
        match self.sparsity {
            Some(Sparsity::Kl { .. }) => {
                let within = match self.sparse_layer {
                    None => self.binarize.is_logistic(),
                    Some(_) => self.activation == super::Activation::Sigmoid,
                };
                refuse(
                    !within,
                    "sparsity",
                    "KL compares means between 0 and 1: take sigmoid units, or L1",
                )
            }
            Some(Sparsity::Top(_)) => refuse(
                self.sparse_layer.is_some() || self.binarize != Binarize::Round,
                "sparsity",
                "the largest few are taken of a code layer that rounds; take L1 or KL for others",
            ),
            _ => Ok(()),
        }
    }

    /// At most one start, for the network that it is made for.
    fn check_starts(&self) -> Result<()> {
        if self.start_from_itq && !self.hidden.is_empty() {
            return Err(Error::invalid(
                "start from ITQ",
                format!(
                    "principal components start an encoder without hidden layers, got {:?}; leave \
                     one of the two out",
                    self.hidden
                ),
            ));
        }
        if self.pretraining.is_none() {
            return Ok(());
        }
        refuse(self.start_from_itq, "pretraining", "the encoder starts from ITQ; leave one out")?;
        let mirrored: Vec<usize> = self.hidden.iter().rev().copied().collect();
        refuse(
            self.decoder_hidden() != mirrored,
            "pretraining",
            "the decoder starts as the encoder upside down; leave its sizes out",
        )?;
        refuse(
            !self.hidden.is_empty() && self.activation != super::Activation::Sigmoid,
            "pretraining",
            "Boltzmann machines have sigmoid units; take that activation for the hidden layers",
        )?;
        refuse(
            !self.binarize.is_logistic(),
            "pretraining",
            "Boltzmann machines have sigmoid units; take another code layer than a linear one",
        )
    }

    /// Recirculation has no other goal than the reconstruction, and no layers between.
    fn check_recirculation(&self) -> Result<()> {
        let others = [
            ("hidden layers", !self.hidden.is_empty() || !self.decoder_hidden().is_empty()),
            ("neighbours", self.neighbours.is_some()),
            ("nested widths", !self.nested.is_empty()),
            ("similarity", self.similarity.is_some()),
            ("corruption", self.corruption.is_some()),
            ("sparsity", self.sparsity.is_some()),
            ("contraction", self.contraction > 0.0),
            ("a mix of losses", !self.mix.is_empty()),
            (
                "a code layer other than the sigmoid or a linear one",
                !matches!(self.binarize, Binarize::Sigmoid | Binarize::Linear),
            ),
        ];
        match others.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((what, _)) => Err(Error::invalid(
                "recirculation",
                format!(
                    "it trains one layer each way by its reconstruction alone; leave {what} out"
                ),
            )),
        }
    }
}

fn refuse(is_wrong: bool, name: &str, message: &str) -> Result<()> {
    if is_wrong { Err(Error::invalid(name, message)) } else { Ok(()) }
}

fn integer(name: &str, got: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&got) {
        return Ok(());
    }
    Err(Error::invalid(name, format!("expected {least} to {most}, got {got}")))
}

/// NaN is in no range.
fn number(name: &str, got: f64, least: f64, most: f64) -> Result<()> {
    if (least..=most).contains(&got) {
        return Ok(());
    }
    let range = if most == f64::MAX {
        "a number above 0".into()
    } else if least == f64::MIN_POSITIVE {
        format!("a number above 0, at most {most}")
    } else {
        format!("{least} to {most}")
    };
    Err(Error::invalid(name, format!("expected {range}, got {got}")))
}
