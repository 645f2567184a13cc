"""The simulated installation: chats on their way through API processes, Redis, queues and workers."""

from collections import Counter
from collections.abc import Generator, Iterable
from itertools import chain

import numpy as np
from simpy import Environment, Event

from bench.simulation.arrivals import Chat
from bench.simulation.background import LOOK_S, Background, places_told
from bench.simulation.costs import Costs
from bench.simulation.engine import Lost
from bench.simulation.figures import Figures
from bench.simulation.plan import DAY_S, Plan
from bench.simulation.queue import Job, Queue, Worker
from bench.simulation.server import Server

__all__ = ["Installation"]

#: Seconds for which the background load stays the same.
TICK_S = 1.0
#: Events of a chat that are simulated one by one: `queued`, `started`, the first token, and the end. Round
#: trips of a stream: a call that wakes the feed up, its subscription, the read of the log, and the end.
CHAT_EVENTS, STREAM_TRIPS = 4, 4

Steps = Generator[Event, object, None]


class Installation:
    """The processes of a plan. `run` sends it the chats, and returns the figures.

    A chat is simulated step by step. Its tokens are not: `Background` adds up the appends of all workers, for
    each second.
    """

    def __init__(self, plan: Plan, costs: Costs) -> None:
        self._plan, self._costs = plan, costs
        self._env = env = Environment()
        self._rng = np.random.default_rng([plan.seed, 1])
        self._background = Background(plan, costs)
        self._workers = sum(plan.workers)
        self._redis = Server(env)
        self._apis = [Server(env) for _ in range(plan.api_processes)]
        self.queues = [Queue(Worker(env, plan) for _ in range(count)) for count in plan.workers]
        self._open = 0
        self.figures = Figures(plan, self._redis, self._apis)

    def run(self, chats: Iterable[Chat]) -> Figures:
        """Let the chats arrive, for the time of the plan, and return the figures of this time."""
        self._env.process(self._arrive(iter(chats)))
        self._env.process(self._tick())
        if self._plan.deaths_per_day:
            self._env.process(self._let_die())
        self._env.run(self._plan.seconds)
        for worker in chain.from_iterable(queue.workers for queue in self.queues):
            worker.engine.advance()
            self.figures.add_worker(worker.engine)
        return self.figures

    def _arrive(self, chats: Iterable[Chat]) -> Steps:
        for chat in chats:
            yield self._env.timeout(chat.at - self._env.now)
            api = self._apis[int(self._rng.integers(len(self._apis)))]
            self._env.process(self._submit(Job(chat, api, chat.tokens)))

    def _submit(self, job: Job) -> Steps:
        costs, trip_s = self._costs, self._plan.round_trip_s
        self._open += 1
        yield self._env.timeout(job.api.serve("chats", costs.api_chat) + trip_s)
        self._redis.book("streams", costs.stream, STREAM_TRIPS)
        self.figures.logged += CHAT_EVENTS
        yield self._env.timeout(self._redis.serve("submits", costs.submit.at(self._workers)) + trip_s)
        self._put(job)

    def _put(self, job: Job) -> None:
        """Add the job to its queue, and start those that may start now."""
        queue, job.waits_since = self.queues[job.chat.model], self._env.now
        if job.attempt == 1:
            queue.turns.put(job.chat.key, job)
        else:
            queue.turns.put_back(job.chat.key, job)
        self._dispatch(queue)

    def _dispatch(self, queue: Queue) -> None:
        while found := queue.next():
            self._env.process(self._run(queue, *found))

    def _run(self, queue: Queue, job: Job, worker: Worker) -> Steps:
        """Run an attempt at the job."""
        costs, trip_s, redis = self._costs, self._plan.round_trip_s, self._redis
        yield self._env.timeout(redis.serve("messages", costs.message) + trip_s)
        yield self._env.timeout(redis.serve("claims", costs.claim) + trip_s + costs.worker_chat)
        self.figures.waits.append(self._env.now - job.waits_since)
        yield self._env.timeout(self._plan.speed.prefill_s)
        end: object = Lost(job.tokens, worker.lapses_at)
        if worker.alive:
            self._first_token(job, worker)
            end = yield worker.engine.join(job.tokens)
        if isinstance(end, Lost):
            yield from self._lose(job, end)
            return
        yield self._env.timeout(redis.serve("ends", costs.end.at(self._workers)) + trip_s)
        redis.book("deletions", costs.forget, 1)
        self._open -= 1
        self.figures.add_end(self._env.now - job.chat.at, job.chat.tokens)
        queue.release(worker)
        self._dispatch(queue)

    def _first_token(self, job: Job, worker: Worker) -> None:
        """Note when the client gets the first token of this attempt: it is sent at once."""
        costs, trip_s = self._costs, self._plan.round_trip_s
        cost = costs.append.at(1) + costs.publish
        sent_s = worker.engine.next_step_s + self._redis.serve("first tokens", cost) + trip_s
        got_at = self._env.now + sent_s + job.api.serve("events", costs.api_event)
        if job.attempt == 1:
            self.figures.firsts.append(got_at - job.chat.at)
        elif job.silent_since is not None:
            self.figures.gaps.append(got_at - job.silent_since)

    def _lose(self, job: Job, lost: Lost) -> Steps:
        """Wait until recovery returns the job to its queue."""
        job.tokens, job.attempt, job.silent_since = lost.tokens, job.attempt + 1, self._env.now
        yield self._env.timeout(max(0.0, lost.lapses_at - self._env.now))
        yield self._env.timeout(self._redis.serve("requeues", self._costs.requeue.at(self._workers)))
        self._put(job)

    def _let_die(self) -> Steps:
        """Kill workers at random times. Each is started again."""
        while True:
            mean_s = DAY_S / (self._plan.deaths_per_day * self._workers)
            yield self._env.timeout(self._rng.exponential(mean_s))
            weights = np.array([len(queue.workers) for queue in self.queues])
            queue = self.queues[int(self._rng.choice(len(weights), p=weights / weights.sum()))]
            alive = [worker for worker in queue.workers if worker.alive]
            if alive:
                worker = alive[int(self._rng.integers(len(alive)))]
                self.kill(queue, worker)
                self._env.process(self._restart(queue))

    def kill(self, queue: Queue, worker: Worker) -> None:
        """Kill a worker of the queue.

        It has renewed its lease within the last third of a lease, and recovery looks once a second.
        """
        since_beat_s, look_s = self._rng.uniform(0, self._plan.lease_s / 3), self._rng.uniform(0, LOOK_S)
        worker.alive = False
        worker.lapses_at = self._env.now + self._plan.lease_s - since_beat_s + look_s
        worker.engine.die(worker.lapses_at)
        self.figures.add_worker(worker.engine)
        queue.workers.remove(worker)

    def _restart(self, queue: Queue) -> Steps:
        yield self._env.timeout(self._plan.restart_s)
        queue.add(Worker(self._env, self._plan))
        self._dispatch(queue)

    def _tick(self) -> Steps:
        """Set the background load of each second, and note what this second was like."""
        redis, background, before_s = self._redis, self._background, 0.0
        while True:
            yield self._env.timeout(TICK_S)
            workers = chain.from_iterable(queue.workers for queue in self.queues)
            running = Counter(at_once for worker in workers if (at_once := worker.engine.running))
            told = sum(places_told(*queue.take_counts()) for queue in self.queues)
            upkeep = {**background.upkeep(), "places": background.places(told)}
            chats = (redis.total_s - before_s) / TICK_S
            others = sum(work.share for work in upkeep.values())
            load = background.balance(running, others + chats)
            appends, events = background.appends(running, load)
            for name, work in {**upkeep, "appends of tokens": appends}.items():
                redis.book(name, work.share * TICK_S, work.round_trips * TICK_S)
            redis.load, before_s = others, redis.total_s
            redis.ahead_s = appends.share / max(1.0, appends.round_trips) * load / (1 - load)
            share = (events + told) * self._costs.api_event / len(self._apis)
            for api in self._apis:
                api.book("events", share * TICK_S, events * TICK_S / len(self._apis))
                api.load = share
            waiting = sum(len(queue.turns) for queue in self.queues)
            self.figures.add_second(
                events, told, running.total(), sum(running.elements()), self._open, waiting
            )
