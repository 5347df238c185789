//! Quality: precision, mean average precision, recall, the health of codes.
