"""Networks that a user could write, good and bad."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Elman(nn.Module):
    """A plain recurrent network, with a carry of two parts."""

    width: int = 6

    @nn.compact
    def __call__(self, carry, x, first):
        inner = nn.Dense(self.width)

        def step(module, carry, xs):
            (h, steps), (x, first) = carry, xs
            h = jnp.where(first[:, None], 0.0, h)
            steps = jnp.where(first, 0, steps) + 1
            h = nn.tanh(inner(jnp.concatenate([x, h], axis=-1)))
            return (h, steps), (h, steps)

        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
        _, (h, steps) = scan(self, carry, (x, first))
        return (h, steps), nn.relu(nn.Dense(5)(h))

    def initial_carry(self, batch):
        return jnp.zeros((batch, self.width)), jnp.zeros(batch, jnp.int32)


class Plain:
    """No module of flax: a matrix, after all axes of an input have become one."""

    def init(self, key, carry, x, first):
        size = x[0, 0].size
        return {"kernel": jax.random.normal(key, (size, 5)) / size**0.5}

    def apply(self, params, carry, x, first):
        return (), jnp.tanh(x.reshape((*x.shape[:2], -1)) @ params["kernel"])


def make(role, spec):
    return Elman(6 if role == "actor" else 4)


def make_ff(role, spec):
    return Plain()


class Wrong(Plain):
    def apply(self, params, carry, x, first):
        return super().apply(params, carry, x, first)[1]


class Narrow(Plain):
    def apply(self, params, carry, x, first):
        return (), jnp.zeros(x.shape[:1])


class Failing(Plain):
    def apply(self, params, carry, x, first):
        raise ValueError("no such layer")


class Forgetful(Elman):
    def initial_carry(self, batch):
        return jnp.zeros((batch, 7)), jnp.zeros(batch, jnp.int32)


def wrong(role, spec):
    return Wrong()


def narrow(role, spec):
    return Narrow() if role == "actor" else Plain()


def failing(role, spec):
    return Failing()


def forgetful(role, spec):
    return Forgetful()


def nothing(role, spec):
    return None


def refuses(role, spec):
    raise KeyError(spec.num_agents)


def one_argument(role):
    return Plain()
