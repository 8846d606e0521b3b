"""What each `tokenrank` command does; imported only when it is asked for."""
