"""Q-learning with a replay buffer (a deque of named tuples), a target network and an epsilon that decays."""

import json
import random
import sys
from collections import deque, namedtuple

import numpy as np
import torch
from torch import nn

Transition = namedtuple("Transition", ("state", "action", "reward", "next_state", "done"))


class Corridor:
    def __init__(self, length=7):
        self.length = length
        self.rng = np.random.default_rng(12)

    def reset(self):
        self.position, self.time = int(self.rng.integers(1, self.length - 1)), 0
        return self.observe()

    def observe(self):
        state = np.zeros(self.length, dtype=np.float32)
        state[self.position] = 1.0
        return state

    def step(self, action):
        self.time += 1
        slip = self.rng.random() < 0.1
        self.position += (1 if action else -1) * (-1 if slip else 1)
        done = self.position in (0, self.length - 1) or self.time >= 15
        return self.observe(), float(self.position == self.length - 1) - 0.01, done


class ReplayMemory:
    def __init__(self, capacity):
        self.memory = deque([], maxlen=capacity)

    def push(self, *args):
        self.memory.append(Transition(*args))

    def sample(self, n):
        return random.sample(self.memory, n)

    def __len__(self):
        return len(self.memory)


def optimize(policy, target, memory, optimizer):
    batch = Transition(*zip(*memory.sample(16)))
    states, next_states = (torch.from_numpy(np.stack(part)) for part in (batch.state, batch.next_state))
    actions, rewards = torch.tensor(batch.action).unsqueeze(1), torch.tensor(batch.reward)
    alive = 1.0 - torch.tensor(batch.done, dtype=torch.float32)
    q = policy(states).gather(1, actions).squeeze(1)
    with torch.no_grad():
        goal = rewards + 0.95 * alive * target(next_states).max(1).values
    loss = nn.functional.smooth_l1_loss(q, goal)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_value_(policy.parameters(), 10)
    optimizer.step()
    return loss.item()


def main(out):
    random.seed(5)
    torch.manual_seed(5)
    env, memory = Corridor(), ReplayMemory(60)
    policy, target = (nn.Sequential(nn.Linear(7, 16), nn.ReLU(), nn.Linear(16, 2)) for _ in range(2))
    target.load_state_dict(policy.state_dict())
    optimizer = torch.optim.AdamW(policy.parameters(), lr=5e-3, amsgrad=True)
    steps_done, epsilon, returns = 0, 1.0, []
    while steps_done < 60:
        state, done, total = env.reset(), False, 0.0
        while not done:
            if random.random() < epsilon:
                action = random.randrange(2)
            else:
                with torch.no_grad():
                    action = policy(torch.from_numpy(state)).argmax().item()
            next_state, reward, done = env.step(action)
            memory.push(state, action, reward, next_state, done)
            state, total = next_state, total + reward
            if len(memory) < 16:
                continue
            loss = optimize(policy, target, memory, optimizer)
            steps_done += 1
            epsilon = max(0.05, epsilon * 0.97)
            print(f"step {steps_done} loss {loss:.8f} epsilon {epsilon:.6f} memory {len(memory)}")
            if steps_done % 10 == 0:
                target.load_state_dict(policy.state_dict())
        returns.append(total)
        print(f"episode {len(returns)} return {total:.2f}")
    with open(out + "/returns.json", "w") as f:
        json.dump(returns, f)
    torch.save({"policy": policy.state_dict(), "target": target.state_dict(), "memory": [list(t) for t in memory.memory]}, out + "/model.pt")


main(sys.argv[1])
