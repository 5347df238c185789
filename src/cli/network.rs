//! The flags of `nearbit train` that say what to train: they become options of the library here.

use clap::ValueEnum;
use nearbit::InputKind;
use nearbit::model::{
    Activation, Binarize, ColumnLoss, Corruption, Likeness, Loss, Pretraining, Procedure, Schedule,
    Similarity, Sparsity, TrainOptions,
};

use super::exit::Failure;

/// Choices that the preset makes well.
#[derive(clap::Args)]
#[command(next_help_heading = "Network (the preset chooses what is not given)")]
pub struct Network {
    /// Passes over the rows
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Rows a step
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Adam's step size at its highest
    #[arg(long, value_name = "X")]
    learning_rate: Option<f64>,
    /// How the step size goes down
    #[arg(long, value_name = "constant|linear|cosine")]
    schedule: Option<Schedule>,
    /// The widest code that is learned whole; a wider one is made of several that are learned alone,
    /// side by side. 0: all are learned whole, as with --nested and with hidden layers
    #[arg(long, value_name = "BITS")]
    member_bits: Option<usize>,
    /// Sizes of the encoder's hidden layers, as in 512,256; "none" for a linear encoder
    #[arg(long, value_name = "SIZES", value_parser = sizes)]
    hidden: Option<Sizes>,
    /// Sizes of the decoder's hidden layers [default: the encoder's, mirrored]
    #[arg(long, value_name = "SIZES", value_parser = sizes)]
    decoder: Option<Sizes>,
    /// What hidden layers apply
    #[arg(long, value_name = "linear|relu|tanh|sigmoid|gelu")]
    activation: Option<Activation>,
    /// How a reconstruction is judged: squared, bernoulli, multinomial or poisson; or a mix for runs
    /// of columns, as in squared:10,bernoulli:3,multinomial:5
    #[arg(long, value_name = "LOSS|LOSS:N,...", value_parser = losses)]
    loss: Option<Losses>,
    /// How the code layer is made binary: by noise that grows to this size, by rounding, by sampling;
    /// or not: the sigmoid's value, a linear code, or a Gaussian one (variational)
    #[arg(long, value_name = "noise[:SIZE]|round|sample|sigmoid|linear|gaussian",
          value_parser = binarize)]
    binarize: Option<Binarize>,
    /// Share of the rows that are held out to judge the training by
    #[arg(long, value_name = "SHARE")]
    validation: Option<f64>,
    /// Stop after so many epochs without a better validation loss
    #[arg(long, value_name = "EPOCHS")]
    patience: Option<usize>,
    /// Weight of giving back the row's own features
    #[arg(long, value_name = "X")]
    reconstruction: Option<f64>,
    /// Neighbours of a row in the graph of the training rows; 0 trains a plain autoencoder
    #[arg(long, value_name = "N")]
    neighbours: Option<usize>,
    /// What neighbours are found by: the features of rows, or histograms of an image's edges
    #[arg(long, value_name = "features|edges")]
    likeness: Option<Likeness>,
    /// Steps of the random walk that leads from a row to the one it is paired with
    #[arg(long, value_name = "N")]
    walk: Option<usize>,
    /// Weight of bringing the codes of a pair together
    #[arg(long, value_name = "X")]
    contrast: Option<f64>,
    /// Smaller looks harder at the nearest wrong pairs
    #[arg(long, value_name = "X")]
    temperature: Option<f64>,
    /// Share of the pairs that are near by the codes learned so far, not by a walk; from epoch 3 on
    #[arg(long, value_name = "SHARE")]
    learned_neighbours: Option<f64>,
    /// Weight of keeping the order of exact neighbours, for 128 bits; 0 does not look at it
    #[arg(long, value_name = "X")]
    similarity: Option<f64>,
    /// Smaller looks only at the nearest rows
    #[arg(long, value_name = "X")]
    similarity_temperature: Option<f64>,
    /// Let the bits of a code settle together, where queries lose least, each held to its own value by so much
    #[arg(long, value_name = "X")]
    settle: Option<f64>,
    /// The most words of a text model
    #[arg(long, value_name = "WORDS")]
    vocabulary: Option<usize>,
    /// What is done to the numbers of vectors first
    #[arg(long, value_enum, value_name = "none|centre|standard")]
    scale: Option<Scale>,
    /// Leave the decoder out of the model file, which then can only encode
    #[arg(long)]
    no_decoder: bool,
    #[command(flatten, next_help_heading = "Families of autoencoders")]
    families: Families,
}

/// What makes an autoencoder more than a narrow one.
#[derive(clap::Args)]
struct Families {
    /// Show the encoder rows with numbers masked, noise added, or pixels black and white (denoising)
    #[arg(long, value_name = "masking:P|gaussian:S|salt-and-pepper:P", value_parser = corruption)]
    corrupt: Option<Corruption>,
    /// Leave a hidden unit out of a step with this probability
    #[arg(long, value_name = "P")]
    dropout: Option<f64>,
    /// Keep most units quiet: by an L1 or a KL penalty, or by taking the N largest bits only
    #[arg(long, value_name = "l1:W|kl:W:MEAN|top:N", value_parser = sparsity)]
    sparse: Option<Sparsity>,
    /// The hidden layer that is to be sparse, from 1 [default: the code]
    #[arg(long, value_name = "N", requires = "sparse")]
    sparse_layer: Option<usize>,
    /// Weight of the code's sensitivity to small changes of the input (contractive)
    #[arg(long, value_name = "X")]
    contract: Option<f64>,
    /// Weight of the distance between a stochastic code and its prior (variational)
    /// [default: 1 for a Gaussian code]
    #[arg(long, value_name = "X")]
    prior: Option<f64>,
    /// Start as Boltzmann machines that were trained layer by layer for so many epochs
    #[arg(long, value_name = "EPOCHS")]
    pretrain: Option<usize>,
    /// What turns errors into changes of the weights
    #[arg(long, value_name = "backpropagation|recirculation")]
    procedure: Option<Procedure>,
}

/// What is done to the numbers of vectors.
#[derive(Clone, Copy, ValueEnum)]
enum Scale {
    /// Nothing
    None,
    /// The mean of each column is taken off
    Centre,
    /// Then each column is divided by its standard deviation
    Standard,
}

/// Sizes of layers; a type of its own, as clap takes a plain `Vec` for a repeated flag.
#[derive(Clone)]
struct Sizes(Vec<usize>);

fn sizes(text: &str) -> Result<Sizes, String> {
    if text == "none" {
        return Ok(Sizes(Vec::new()));
    }
    let size = |size: &str| size.trim().parse().map_err(|_| format!("{size:?} is no size"));
    text.split(',').map(size).collect::<Result<_, _>>().map(Sizes)
}

fn binarize(text: &str) -> Result<Binarize, String> {
    match text.split_once(':') {
        None if text == "round" => Ok(Binarize::Round),
        None if text == "sample" => Ok(Binarize::Sample),
        None if text == "sigmoid" => Ok(Binarize::Sigmoid),
        None if text == "linear" => Ok(Binarize::Linear),
        None if text == "gaussian" => Ok(Binarize::Gaussian),
        None if text == "noise" => Ok(Binarize::Noise { start: 0.0, end: 4.0 }),
        Some(("noise", end)) => Ok(Binarize::Noise { start: 0.0, end: number(end)? }),
        _ => Err("expected noise, noise:SIZE, round, sample, sigmoid, linear or gaussian".into()),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

/// One loss for all columns, or losses for runs of them.
#[derive(Clone)]
enum Losses {
    One(Loss),
    Mix(Vec<ColumnLoss>),
}

fn losses(text: &str) -> Result<Losses, String> {
    let loss = |word: &str| word.parse::<Loss>().map_err(|error| error.to_string());
    if !text.contains(':') {
        return loss(text).map(Losses::One);
    }
    let part = |part: &str| match part.split_once(':') {
        Some((word, columns)) => {
            Ok(ColumnLoss { columns: number(columns)?, loss: loss(word.trim())? })
        }
        None => Err(format!("expected LOSS:COLUMNS, got {part:?}")),
    };
    text.split(',').map(part).collect::<Result<_, _>>().map(Losses::Mix)
}

fn corruption(text: &str) -> Result<Corruption, String> {
    match text.split_once(':') {
        Some(("masking", share)) => number(share).map(Corruption::Masking),
        Some(("gaussian", deviation)) => number(deviation).map(Corruption::Gaussian),
        Some(("salt-and-pepper", share)) => number(share).map(Corruption::SaltAndPepper),
        _ => Err("expected masking:P, gaussian:S or salt-and-pepper:P".into()),
    }
}

fn sparsity(text: &str) -> Result<Sparsity, String> {
    match *text.split(':').collect::<Vec<_>>() {
        ["l1", weight] => Ok(Sparsity::L1 { weight: number(weight)? }),
        ["kl", weight, mean] => Ok(Sparsity::Kl { weight: number(weight)?, target: number(mean)? }),
        ["top", active] => number(active).map(Sparsity::Top),
        _ => Err("expected l1:WEIGHT, kl:WEIGHT:MEAN or top:BITS".into()),
    }
}

impl Network {
    /// Puts what was given in the place of what the preset says.
    ///
    /// # Errors
    /// A flag that would be without effect beside the others, or for rows of this kind.
    pub fn change(&self, options: &mut TrainOptions, kind: InputKind) -> Result<(), Failure> {
        self.set(options);
        self.check_effect(options, kind)
    }

    fn check_effect(&self, options: &TrainOptions, kind: InputKind) -> Result<(), Failure> {
        let paired = options.neighbours.is_some();
        let contrast = options.neighbours.as_ref().is_some_and(|pairs| pairs.contrast > 0.0);
        let layers = [Some(&options.hidden), options.decoder.as_ref()];
        let deep = layers.into_iter().flatten().any(|sizes| !sizes.is_empty());
        let (texts, vectors) = (kind == InputKind::Text, matches!(kind, InputKind::Vector { .. }));

        let no_pairs = "with --neighbours 0 no row is paired with another";
        let no_contrast = "it belongs to --contrast, which is 0 or has no neighbours";
        let no_order = "it belongs to --similarity, which is 0";
        let flags = [
            ("--likeness", self.likeness.is_some(), paired, no_pairs),
            ("--walk", self.walk.is_some(), paired, no_pairs),
            ("--contrast", self.contrast > Some(0.0), paired, no_pairs),
            ("--learned-neighbours", self.learned_neighbours > Some(0.0), paired, no_pairs),
            ("--temperature", self.temperature.is_some(), contrast, no_contrast),
            (
                "--similarity-temperature",
                self.similarity_temperature.is_some(),
                options.similarity.is_some(),
                no_order,
            ),
            ("--activation", self.activation.is_some(), deep, "there is no hidden layer"),
            ("--vocabulary", self.vocabulary.is_some(), texts, "only texts have words"),
            ("--scale", self.scale.is_some(), vectors, "only vectors are scaled"),
        ];
        match flags.into_iter().find(|(_, given, has_effect, _)| *given && !has_effect) {
            Some((flag, .., why)) => {
                Err(Failure::usage(format!("{flag} would have no effect: {why}; leave it out")))
            }
            None => Ok(()),
        }
    }

    fn set(&self, options: &mut TrainOptions) {
        options.epochs = self.epochs.or(options.epochs);
        set(&mut options.batch, self.batch);
        set(&mut options.learning_rate, self.learning_rate);
        set(&mut options.schedule, self.schedule);
        if let Some(Sizes(hidden)) = &self.hidden {
            // Principal components start an encoder without hidden layers only.
            options.start_from_itq &= hidden.is_empty();
            options.hidden.clone_from(hidden);
        }
        if let Some(Sizes(decoder)) = &self.decoder {
            options.decoder = Some(decoder.clone());
        }
        set(&mut options.activation, self.activation);
        match &self.loss {
            Some(Losses::One(loss)) => options.loss = *loss,
            Some(Losses::Mix(mix)) => options.mix.clone_from(mix),
            None => {}
        }
        set(&mut options.binarize, self.binarize);
        set(&mut options.validation, self.validation);
        options.patience = self.patience.or(options.patience);
        if self.neighbours == Some(0) {
            // Then the reconstruction is all there is to learn from.
            options.neighbours = None;
            options.similarity = None;
            options.reconstruction = 1.0;
        }
        if let Some(neighbours) = &mut options.neighbours {
            set(&mut neighbours.count, self.neighbours);
            set(&mut neighbours.likeness, self.likeness);
            neighbours.walk = self.walk.or(neighbours.walk);
            set(&mut neighbours.contrast, self.contrast);
            set(&mut neighbours.temperature, self.temperature);
            set(&mut neighbours.learned, self.learned_neighbours);
        }
        if let Some(weight) = self.similarity {
            let temperature = options.similarity.map_or(0.03, |similarity| similarity.temperature);
            options.similarity = (weight != 0.0).then_some(Similarity { weight, temperature });
        }
        if let Some(similarity) = &mut options.similarity {
            set(&mut similarity.temperature, self.similarity_temperature);
        }
        set(&mut options.reconstruction, self.reconstruction);
        options.settle = self.settle.or(options.settle);
        set(&mut options.features.text.vocabulary, self.vocabulary);
        if let Some(scale) = self.scale {
            options.features.vector.centre = !matches!(scale, Scale::None);
            options.features.vector.scale = matches!(scale, Scale::Standard);
        }
        options.keep_decoder &= !self.no_decoder;
        self.families.change(options);
        match self.member_bits {
            Some(bits) => options.member_bits = (bits > 0).then_some(bits),
            // The preset's members give way to what goes without.
            None if options.wants_whole().is_some() => options.member_bits = None,
            None => {}
        }
    }
}

impl Families {
    fn change(&self, options: &mut TrainOptions) {
        options.corruption = self.corrupt.or(options.corruption);
        set(&mut options.dropout, self.dropout);
        options.sparsity = self.sparse.or(options.sparsity);
        options.sparse_layer = self.sparse_layer.or(options.sparse_layer);
        set(&mut options.contraction, self.contract);
        if options.binarize == Binarize::Gaussian {
            options.prior = 1.0;
        }
        set(&mut options.prior, self.prior);
        if let Some(epochs) = self.pretrain {
            options.start_from_itq = false;
            options.pretraining = Some(Pretraining { epochs, ..Pretraining::default() });
        }
        if let Some(procedure) = self.procedure {
            options.start_from_itq &= procedure == Procedure::Backpropagation;
            options.procedure = procedure;
        }
    }
}

fn set<T>(option: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *option = given;
    }
}
