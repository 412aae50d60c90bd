import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy import stats

from edgeinfer import _core

from .conftest import SNR


def run(
    stages,
    entropy,
    *,
    rate=1.0,
    arrival=None,
    deadlines=(2.0,),
    jobs=40_000,
    replications=48,
    service="tandem",
    link="table",
    threads=2,
    warmup=2000,
):
    """Means over each replication."""
    arrival = ("poisson", (rate,)) if arrival is None else arrival
    answer = _core.simulate(
        stages,
        arrival,
        np.asarray(deadlines, dtype=float),
        jobs,
        warmup,
        replications,
        1,
        service,
        link,
        entropy,
        threads,
    )
    violations, waiting, busy = (answer[name][:, 0] for name in ("violations", "waiting", "busy"))
    return {
        "violations": violations / jobs,
        "waiting": waiting / jobs,
        "sojourn": np.cumsum(waiting + busy, axis=-1) / jobs,
        "busy": busy / answer["elapsed"],
        "histogram": answer["histogram"],
    }


def z_of(samples, truth):
    return (samples.mean() - truth) / (samples.std(ddof=1) / np.sqrt(samples.size))


# With the seeds fixed a test below passes or fails for good; over seeds |z| < 4.5 fails with probability 7e-6.
LIMIT = 4.5


def test_the_same_bits_for_any_number_of_threads(latent, entropy):
    stages = [("deterministic", 0.6), ("transfer", latent), ("deterministic", 0.4)]
    for link in ("table", "slots", "wall_clock"):
        results = [
            run(stages, entropy, jobs=500, replications=9, warmup=10, link=link, threads=threads)
            for threads in (1, 2, 7)
        ]
        for other in results[1:]:
            for name, value in results[0].items():
                np.testing.assert_array_equal(value, other[name])
    rare = [
        _core.rare_violation(stages, ("poisson", (1.0,)), 8.0, 0.02, 1e7, entropy, threads) for threads in (1, 2, 7)
    ]
    assert rare[0] == rare[1] == rare[2]


@pytest.mark.parametrize("link", ["table", "wall_clock"])
def test_batches_cut_a_replication_and_change_nothing(link, latent, entropy):
    stages = [("deterministic", 0.6), ("transfer", latent)]
    whole, parts = (
        _core.simulate(stages, ("poisson", (1.0,)), np.array([2.0]), 1000, 45, 3, cut, "tandem", link, entropy, 1)
        for cut in (1, 6)
    )
    # 32 blocks of 32 jobs, the last of 8, in 6 batches.
    np.testing.assert_array_equal(parts["ends"], [192, 384, 544, 704, 864, 1000])
    for name in ("violations", "waiting", "busy", "elapsed"):
        assert (np.diff(parts[name], axis=1) >= 0).all()
        np.testing.assert_array_equal(parts[name][:, -1], whole[name][:, 0])
    np.testing.assert_array_equal(parts["histogram"], whole["histogram"])
    for cut in (0, 33):
        with pytest.raises(ValueError):
            _core.simulate(stages, ("poisson", (1.0,)), np.array([2.0]), 1000, 0, 3, cut, "tandem", link, entropy, 1)


def test_beta_quantile():
    p = np.array([1e-9, 0.025, 0.5, 0.975, 1 - 2.0**-30])[:, None, None]
    a, b = np.array([1e-3, 0.5, 1, 10, 1e4])[:, None], np.array([0.7, 1, 30, 1e9])
    np.testing.assert_allclose(_core.beta_quantile(p, a, b), stats.beta.ppf(p, a, b), rtol=1e-6, atol=1e-300)
    # Stated: 0.01 standard deviations where both are large.
    a, b = np.array([1.1e4, 1e7]), np.array([2e4, 3e9])
    exact, law = stats.beta.ppf([[0.025], [0.975]], a, b), stats.beta(a, b)
    assert (np.abs(_core.beta_quantile([[0.025], [0.975]], a, b) - exact) < 0.01 * law.std()).all()
    assert np.isnan(_core.beta_quantile([0, 1, 0.5, 0.5], [1, 1, 0, 1], [1, 1, 1, np.inf])).all()


def test_mm1_sojourn_ccdf(entropy):
    deadlines = np.array([1.0, 3.0, 6.0])
    answer = run([("exponential", 0.6)], entropy, deadlines=deadlines)
    for i, deadline in enumerate(deadlines):
        assert abs(z_of(answer["violations"][:, i, 0], np.exp(-(1 / 0.6 - 1) * deadline))) < LIMIT


def test_pollaczek_khinchine_for_md1(entropy):
    answer = run([("deterministic", 0.7)], entropy)
    assert abs(z_of(answer["waiting"][:, 0], 0.7 * 0.7 / (2 * (1 - 0.7)))) < LIMIT
    assert abs(z_of(answer["busy"][:, 0], 0.7)) < LIMIT


def test_tandem_of_exponential_servers_is_a_product(entropy):
    # Jackson: mean sojourn times add as if each queue were M/M/1.
    answer = run([("exponential", 0.6), ("exponential", 0.5)], entropy)
    truth = 1 / (1 / 0.6 - 1) + 1 / (1 / 0.5 - 1)
    assert abs(z_of(answer["sojourn"][:, 1], truth)) < LIMIT


def test_dm1_waiting(entropy):
    # D/M/1: sigma = exp(-(1 - sigma) / rho), mean wait sigma / (mu (1 - sigma)).
    service, sigma = 0.7, 0.5
    for _ in range(200):
        sigma = np.exp(-(1 - sigma) / service)
    answer = run([("exponential", service)], entropy, arrival=("deterministic", (1.0,)))
    assert abs(z_of(answer["waiting"][:, 0], service * sigma / (1 - sigma))) < LIMIT


@pytest.mark.parametrize(
    ("arrival", "transform"),
    [
        (("erlang", (1.0, 4.0)), lambda z: (4 / (4 + z)) ** 4),
        (("hyperexponential", (0.5, 2.0, 2 / 3)), lambda z: 0.5 * 2 / (2 + z) + 0.5 * (2 / 3) / (2 / 3 + z)),
    ],
)
def test_renewal_arrivals_give_gim1(arrival, transform, entropy):
    # GI/M/1: sigma = A*(mu (1 - sigma)), mean wait sigma / (mu (1 - sigma)).
    mean, sigma = 0.5, 0.5
    for _ in range(500):
        sigma = transform((1 - sigma) / mean)
    answer = run([("exponential", mean)], entropy, arrival=arrival)
    assert abs(z_of(answer["waiting"][:, 0], mean * sigma / (1 - sigma))) < LIMIT
    assert abs(z_of(answer["busy"][:, 0], mean)) < LIMIT


def test_serial_service_is_mg1_of_the_whole_path(latent, entropy):
    stages = [("deterministic", 0.3), ("transfer", latent), ("deterministic", 0.2)]
    mean = 0.5 + latent.mean
    second = mean**2 + latent.variance
    answer = run(stages, entropy, service="serial")
    assert abs(z_of(answer["sojourn"][:, -1], mean + second / (2 * (1 - mean)))) < LIMIT


def test_golden_mean_sojourn(latent, entropy):
    stages = [("deterministic", 0.651), ("transfer", latent), ("deterministic", 0.458)]
    answer = run(stages, entropy, jobs=80_000)
    assert abs(z_of(answer["sojourn"][:, -1], 1.82312)) < LIMIT


def test_links_drawn_by_table_and_slots_agree(latent, entropy):
    other = entropy + np.uint64(1)
    table = _core.sample_service(("transfer", latent), 400_000, "table", entropy)
    slots = _core.sample_service(("transfer", latent), 400_000, "slots", other)
    grid = np.linspace(0.05, 0.16, 12)
    # Differences of empirical frequencies in standard errors: 12 looks, false alarms < 1e-4.
    p = latent.sf(grid)
    for sample in (table, slots):
        z = ((sample[:, None] > grid).mean(axis=0) - p) / np.sqrt(p * (1 - p) / sample.size)
        assert np.abs(z).max() < LIMIT


def test_table_keeps_the_tail(latent, entropy):
    sample = _core.sample_service(("transfer", latent), 4_000_000, "table", entropy)
    for time_ in (0.19, 0.21):
        p = float(latent.sf(time_))
        assert 1e-6 < p < 1e-3
        assert abs((sample > time_).mean() - p) / np.sqrt(p / sample.size) < LIMIT


def test_rare_goldens(latent, entropy):
    stages = [("deterministic", 0.651), ("transfer", latent), ("deterministic", 0.458)]
    for deadline, truth in {2.4: 0.176731, 4.8: 9.1188e-3, 9.6: 2.41446e-5, 18.0: 7.4621e-10}.items():
        answer = _core.rare_violation(stages, ("poisson", (1.0,)), deadline, 0.002, 1e8, entropy, 2)
        assert answer["reached"] and answer["largest_weight_share"] < 0.01
        # Standard error 0.2 %, truth to 2e-5.
        assert abs(answer["value"] / truth - 1) < LIMIT * 0.002


def slot_twin(deadline, count, rng):
    """P(W > T) of the link-bottleneck case from theory alone: backward recursion, slots drawn one by one under the
    tilted law (R's exponent tilted, arrivals at lambda + theta), likelihood ratios in full. Returns value and standard
    error.
    """
    rate, d1, d3, bits, snr, slot, bandwidth = 1.3, 0.3, 0.458, 5.2429e6, 10**0.1, 0.01, 10e6
    law = _core.Transfer(bits, bandwidth, snr, slot)
    low, high = 0.1, 5.0
    for _ in range(100):
        theta = (low + high) / 2
        low, high = (theta, high) if law.log_mgf(np.float64(theta))[0] < np.log1p(theta / rate) else (low, theta)
    log_moment = law.log_mgf(np.float64(theta))[0]
    drawn = np.empty(0)

    def draw(size):
        # Rejection against e^{theta X}: accept with e^{theta (X - X_max)}, X_max where the tilted tail is < 1e-9.
        nonlocal drawn
        top = 1.1
        while drawn.size < size:
            n = 200_000
            need = np.full(n, bits / bandwidth)
            x = np.zeros(n)
            alive = np.arange(n)
            while alive.size:
                r = np.log2(1 + snr * rng.exponential(size=alive.size))
                took = np.minimum(need[alive] / r, slot)
                x[alive] += took
                need[alive] -= took * r
                alive = alive[took >= slot]
            drawn = np.append(drawn, x[rng.random(n) < np.exp(theta * (np.minimum(x, top) - top))])
        taken, drawn = drawn[:size], drawn[size:]
        return taken

    p3, first = np.full(count, d3), draw(count)
    p2 = p3 + first
    p1 = p2 + d1
    log_weight = log_moment - theta * first
    total = np.zeros(count)
    alive = np.arange(count)
    crossed = p1 > deadline
    total[crossed] = np.exp(log_weight[crossed])
    alive = alive[~crossed]
    while alive.size:
        t = rng.exponential(1 / (rate + theta), alive.size)
        x = draw(alive.size)
        p3[alive] += d3 - t
        p2[alive] = np.maximum(p2[alive] - t, p3[alive]) + x
        p1[alive] = np.maximum(p1[alive] - t, p2[alive]) + d1
        log_weight[alive] += np.log(rate / (rate + theta)) + theta * t + log_moment - theta * x
        done = p1[alive] > deadline
        total[alive[done]] = np.exp(log_weight[alive[done]])
        alive = alive[~done]
    return total.mean(), total.std(ddof=1) / np.sqrt(count)


@pytest.mark.slow
def test_link_bottleneck_equals_a_slot_by_slot_twin(entropy):
    image = _core.Transfer(5.2429e6, 10e6, 10**0.1, 0.01)
    stages = [("deterministic", 0.3), ("transfer", image), ("deterministic", 0.458)]
    twin, error = slot_twin(6.0, 8_000, np.random.default_rng(3))
    answer = _core.rare_violation(stages, ("poisson", (1.3,)), 6.0, 0.002, 1e8, entropy, 2)
    assert abs(answer["value"] - twin) < LIMIT * np.hypot(error, answer["standard_error"])
    assert error < 0.03 * twin


@pytest.mark.slow
@pytest.mark.parametrize(
    ("d1", "d3", "bits", "rate", "deadline"),
    [(0.651, 0.458, 1.0486e6, 1.0, 4.8), (0.458, 0.651, 1.0486e6, 1.0, 4.8), (0.3, 0.458, 5.2429e6, 1.3, 4.5)],
    ids=["edge", "device", "link"],
)
def test_rare_interval_covers(d1, d3, bits, rate, deadline, entropy):
    # The truth by a long run of its own, which plain simulation of 64 million jobs confirms. 300 runs at nominal 95 %:
    # fewer than 271 cover with probability < 1e-3 if the coverage is right.
    stages = [("deterministic", d1), ("transfer", _core.Transfer(bits, 10e6, SNR, 0.01)), ("deterministic", d3)]
    long_run = _core.rare_violation(stages, ("poisson", (rate,)), deadline, 3e-4, 1e9, entropy, 2)
    truth = long_run["value"]
    plain = run(stages, entropy, rate=rate, deadlines=(deadline,), jobs=1_000_000, replications=64)["violations"][
        :, 0, 2
    ]
    assert abs(z_of(plain, truth)) < LIMIT
    covered = 0
    for seed in range(300):
        key = np.random.SeedSequence(seed).generate_state(4, np.uint64)
        answer = _core.rare_violation(stages, ("poisson", (rate,)), deadline, 0.02, 1e7, key, 2)
        assert answer["standard_error"] > 3 * long_run["standard_error"]
        covered += abs(answer["value"] - truth) <= 1.96 * answer["standard_error"]
    assert covered >= 271


@pytest.mark.parametrize(
    "change",
    [
        {"jobs": 0},
        {"replications": 0},
        {"threads": 0},
        {"service": "x"},
        {"link": "x"},
        {"arrival": ("poisson", (0.0,))},
        {"arrival": ("poisson", (np.nan,))},
        {"arrival": ("erlang", (1.0, 0.0))},
        {"arrival": ("hyperexponential", (1.5, 1.0, 1.0))},
    ],
)
def test_bad_input(change, entropy):
    with pytest.raises(ValueError):
        run([("deterministic", 0.1)], entropy, **change)


@pytest.mark.process
@pytest.mark.parametrize(
    "call",
    [
        "_core.simulate([('exponential', 0.5)], ('poisson', (1.0,)), np.array([1.0]), 10**9, 0, 64, 1, 'tandem',"
        " 'table', entropy, 2)",
        "_core.rare_violation([('deterministic', 0.999)], ('poisson', (1.0,)), 1e5, 0.001, 1e9, entropy, 2)",
        "_core.rare_violation([('exponential', 0.999)] * 6, ('poisson', (1.0,)), 1e5, 0.001, 1e9, entropy, 2)",
        "_core.sample_service(('transfer', law), 10**8, 'slots', entropy)",
        "_core.sample_rate(10**9, 1.0, 1.0, (2.0, 0.0, 0.5, 1.0), entropy)",
    ],
)
def test_interrupt_stops_within_half_a_second(call):
    script = (
        # A shell's background job inherits SIGINT ignored.
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import numpy as np\nfrom edgeinfer import _core\nentropy = np.arange(4, dtype=np.uint64)\n"
        "law = _core.Transfer(1e6, 1e7, 1.0, 0.01)\n"
        f"print('go', flush=True)\ntry:\n    {call}\nexcept KeyboardInterrupt:\n    print('stopped', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "go\n"
        time.sleep(0.3)
        start = time.monotonic()
        os.kill(child.pid, signal.SIGINT)
        assert child.stdout.readline() == "stopped\n"
        # Stated: half a second; doubled for a busy machine.
        assert time.monotonic() - start < 1.0
