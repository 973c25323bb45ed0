"""A study over configurations: Optuna chooses builds, Pollux tells what they are worth.

How much array and memory does a MiniLM layer deserve? Each trial is a build; its value is the energy-delay product of one encoder
layer, exact cycles times energy by a published table. Builds that Gemmini's generator refuses are pruned.

    python optuna_study.py            30 trials
    python optuna_study.py --quick    3, for the tests
"""

import sys

import optuna
import pollux as px

CLOCK_HZ = 1e9


def objective(trial: optuna.Trial) -> float:
    fields = {
        "dim": trial.suggest_categorical("dim", [8, 16, 32]),
        "sp_capacity": f"{trial.suggest_categorical('sp_kib', [64, 128, 256, 512])} KiB",
        "acc_capacity": f"{trial.suggest_categorical('acc_kib', [64, 128, 256])} KiB",
        "max_in_flight_mem_reqs": trial.suggest_categorical("requests", [8, 16, 64]),
    }
    try:
        config = px.Config("norm16").replace(name=f"trial {trial.number}", **fields)
        report = px.transformer("minilm-l6", layers=1, tokens=TOKENS, config=config).report(
            memory=px.Bandwidth(latency=60, bytes=8), energy="horowitz45-lpddr4", clock_hz=CLOCK_HZ, values=False
        )
    except px.PolluxError as error:
        trial.set_user_attr("refused", str(error))
        raise optuna.TrialPruned from error
    trial.set_user_attr("cycles", report.cycles)
    assert report.energy_pj is not None
    return report.energy_pj * 1e-12 * report.cycles / CLOCK_HZ


quick = "--quick" in sys.argv
TOKENS = 8 if quick else 64
optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1))
study.optimize(objective, n_trials=3 if quick else 30)
pruned = sum(trial.state is optuna.trial.TrialState.PRUNED for trial in study.trials)
print(f"{len(study.trials)} builds, {pruned} refused")
print(f"best: {study.best_params}, {study.best_trial.user_attrs['cycles']} cycles, {study.best_value:.3e} J s")
