"""Area and an estimate of timing, by synthesis for the xc7z020; never sign-off."""
