"""Operations as values: the record, what may happen to it, and what a store has to do. Pure."""
