"""Operations on label images that several stages share."""
