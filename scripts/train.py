from transformer.commands.entry import train

if __name__ == "__main__":
    train()
