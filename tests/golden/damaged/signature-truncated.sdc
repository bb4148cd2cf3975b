‰SDC
