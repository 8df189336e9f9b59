from transformer.commands.entry import distill

if __name__ == "__main__":
    distill()
