"""Operations that workers run: real engines, brokers, kills and deploys."""
