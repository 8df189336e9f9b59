from transformer.commands.entry import sweep

if __name__ == "__main__":
    sweep()
