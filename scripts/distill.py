from transformer.commands.distill import main

if __name__ == "__main__":
    main()
