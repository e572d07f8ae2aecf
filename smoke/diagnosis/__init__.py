"""Why a server failed, told by its log."""
