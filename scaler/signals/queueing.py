"""The M/M/c queue: Poisson arrivals, exponential service, c servers, one line. Exact formulas, stable for any size."""

from math import exp, floor, inf, sqrt


def erlang_c(load: float, servers: int) -> float:
    """Probability that an arrival has to wait.

    `load`: erlangs, arrival rate [1/s] x mean service time [s], 0 <= load < servers.
    By the recursion of the inverse Erlang-B probability, which cannot overflow and forgets its start by the factor
    n/load at each step below the load, so that it may start 9 standard deviations below it.
    Source: Kleinrock, Queueing Systems 1 (1975), section 3.5.

    >>> round(erlang_c(2.0, 3), 4)
    0.4444
    """
    if load == 0:
        return 0.0
    n = max(0, floor(load - 9 * sqrt(load) - 81))
    inverse_b = load / (load - n)
    while n < servers:
        n += 1
        inverse_b = 1 + n / load * inverse_b
        if inverse_b > 1e300:
            return 0.0
    return servers / (servers * inverse_b - load * (inverse_b - 1))


def sojourn_tail(t_s: float, *, arrivals_per_s: float, service_s: float, servers: int) -> float:
    """P(T > t_s) of the time T from arrival to end, first come first served; 1 where the servers cannot keep up.

    T = W + S: P(W > t) = C exp(-(c - a) t/s), S exponential with mean s; their convolution is
    exp(-t/s) + C (exp(-t/s) - exp(-(c - a) t/s)) / (c - a - 1).
    Source: Gross, Shortle, Thompson, Harris, Fundamentals of Queueing Theory (2008), section 2.3.
    """
    load = arrivals_per_s * service_s
    if load >= servers:
        return 1.0
    ratio = t_s / service_s
    k = servers - load - 1
    near_one = abs(k * ratio) < 1e-6  # where the quotient would be 0/0
    waiting = ratio * exp(-ratio) if near_one else (exp(-ratio) - exp(-(k + 1) * ratio)) / k
    return min(1.0, exp(-ratio) + erlang_c(load, servers) * waiting)


def sojourn_quantile(p: float, *, arrivals_per_s: float, service_s: float, servers: int) -> float:
    """The time [s] within which a share `p` of requests ends, to 0.1 %; infinite where the servers cannot keep up."""
    if arrivals_per_s * service_s >= servers:
        return inf
    low_s, high_s = 0.0, service_s
    while sojourn_tail(high_s, arrivals_per_s=arrivals_per_s, service_s=service_s, servers=servers) > 1 - p:
        low_s, high_s = high_s, 2 * high_s
    while high_s - low_s > 1e-3 * high_s:
        middle_s = (low_s + high_s) / 2
        if sojourn_tail(middle_s, arrivals_per_s=arrivals_per_s, service_s=service_s, servers=servers) > 1 - p:
            low_s = middle_s
        else:
            high_s = middle_s
    return high_s
