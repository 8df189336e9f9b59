from transformer.commands.entry import plot

if __name__ == "__main__":
    plot()
