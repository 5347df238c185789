//! English function words: they hold sentences together and say nothing about their topic.

/// Whether `word`, in lower case, is a function word.
pub(super) fn is_stop_word(word: &str) -> bool {
    STOP_WORDS.binary_search(&word).is_ok()
}

/// Articles, pronouns, determiners, conjunctions, prepositions, auxiliary and light verbs, adverbs
/// of every text, and the contractions of these; in order, for the binary search.
#[rustfmt::skip]
const STOP_WORDS: [&str; 379] = [
    "a", "able", "about", "above", "across", "actually", "after", "afterwards", "again", "against",
    "ago", "ain't", "all", "almost", "along", "already", "also", "although", "always", "am",
    "among", "amongst", "an", "and", "another", "any", "anybody", "anyhow", "anyone", "anything",
    "anyway", "anywhere", "are", "aren't", "around", "as", "ask", "asked", "at", "away", "back",
    "be", "because", "been", "before", "beforehand", "behind", "being", "below", "beneath",
    "beside", "besides", "between", "beyond", "both", "but", "by", "came", "can", "can't", "cannot",
    "certain", "certainly", "clearly", "come", "comes", "coming", "could", "couldn't", "despite",
    "did", "didn't", "do", "does", "doesn't", "doing", "don't", "done", "down", "during", "e.g",
    "each", "eg", "either", "else", "enough", "etc", "even", "ever", "every", "everybody",
    "everyone", "everything", "everywhere", "except", "far", "few", "first", "for", "formerly",
    "from", "further", "furthermore", "get", "gets", "getting", "give", "given", "gives", "go",
    "goes", "going", "gone", "got", "gotten", "had", "hadn't", "has", "hasn't", "have", "haven't",
    "having", "he", "he'd", "he'll", "hence", "her", "here", "hereby", "herein", "hers", "herself",
    "him", "himself", "his", "how", "however", "i", "i'd", "i'll", "i'm", "i've", "i.e", "ie", "if",
    "in", "indeed", "inside", "instead", "into", "is", "isn't", "it", "it'd", "it'll", "its",
    "itself", "just", "keep", "know", "known", "knows", "last", "later", "least", "less", "let",
    "lets", "like", "likely", "made", "make", "makes", "making", "many", "may", "maybe", "me",
    "meanwhile", "might", "mightn't", "mine", "more", "moreover", "most", "mostly", "much", "must",
    "mustn't", "my", "myself", "namely", "near", "nearly", "needn't", "neither", "never",
    "nevertheless", "next", "no", "nobody", "none", "nor", "not", "nothing", "now", "nowhere", "of",
    "off", "often", "on", "once", "one", "oneself", "only", "onto", "or", "other", "others",
    "otherwise", "ought", "our", "ours", "ourselves", "out", "outside", "over", "own", "past",
    "per", "perhaps", "please", "possibly", "probably", "put", "quite", "rather", "really",
    "recently", "said", "same", "say", "saying", "says", "second", "see", "seem", "seemed",
    "seeming", "seems", "seen", "several", "shall", "she", "she'd", "she'll", "should", "shouldn't",
    "since", "so", "some", "somebody", "somehow", "someone", "something", "sometime", "sometimes",
    "somewhere", "still", "such", "take", "taken", "takes", "tell", "than", "that", "that'll",
    "the", "their", "theirs", "them", "themselves", "then", "there", "there'd", "there'll",
    "thereafter", "thereby", "therefore", "therein", "these", "they", "they'd", "they'll",
    "they're", "they've", "think", "this", "those", "though", "thought", "three", "through",
    "throughout", "thus", "till", "to", "together", "told", "too", "took", "toward", "towards",
    "two", "under", "underneath", "unless", "until", "up", "upon", "us", "use", "used", "uses",
    "using", "usually", "very", "via", "want", "wants", "was", "wasn't", "we", "we'd", "we'll",
    "we're", "we've", "well", "went", "were", "weren't", "what", "what're", "whatever", "when",
    "whenever", "where", "whereas", "wherever", "whether", "which", "whichever", "while", "whilst",
    "who", "who'd", "who'll", "who've", "whoever", "whom", "whose", "why", "will", "with", "within",
    "without", "won't", "would", "wouldn't", "yet", "you", "you'd", "you'll", "you're", "you've",
    "your", "yours", "yourself", "yourselves",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_in_lower_case_and_without_repeats() {
        assert!(STOP_WORDS.is_sorted_by(|a, b| a < b));
        assert!(STOP_WORDS.iter().all(|word| *word == word.to_lowercase()));
    }

    #[test]
    fn function_words_are_found_and_topics_are_not() {
        for word in ["the", "a", "yourselves", "don't", "we've"] {
            assert!(is_stop_word(word), "{word}");
        }
        for word in ["", "hockey", "c", "window", "encryption", "The"] {
            assert!(!is_stop_word(word), "{word}");
        }
    }
}
