"""[broker]: one, several shards of it, or a RabbitMQ cluster."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from birthmark_server.settings.values import DAY_S, DnsName, LoopbackEndpoint, LoopbackUrl, Section


class ShardSettings(Section):
    """One broker of several."""

    name: str = Field(
        pattern="^[a-z0-9-]{1,32}$",
        description="What it is called here. Which device goes where depends on the names, so a name stays when the "
        "machine changes.",
    )
    host: DnsName = Field(description="DNS name of this broker, as in its certificate; devices are told it.")
    port: Annotated[int, Field(ge=1, le=65_535)] = Field(8883, description="Port of its mutual-TLS listener.")
    control_host: str = Field("", description="Where the server finds it, if not at `host`.")
    control_port: int = Field(0, ge=0, le=65_535, description="And at which port, if not at `port`.")
    deny_file: str = Field(
        "",
        description="Where a copy of the deny list goes for its gate: on this machine, or a folder that both share. "
        "Empty: something else carries it there (docs/operations.md).",
    )
    drain: bool = Field(False, description="true: no device is sent there any more, those that are there move away.")


class RabbitMqSettings(Section):
    """A RabbitMQ cluster, one of whose nodes runs on this machine (docs/broker.md)."""

    door: LoopbackEndpoint = Field(
        "127.0.0.1:8085",
        description="Address and port, on loopback, where the node on this machine asks us who may do what.",
    )
    management: list[LoopbackUrl] = Field(
        ["http://127.0.0.1:15672"],
        min_length=1,
        description="The management API of the nodes, the nearest first, each at a loopback address: of this machine's "
        "node, and of others where a tunnel leads to them.",
    )
    management_password: str = Field(
        "",
        description="Where the password of its user `srv-management` comes from, as `[ca] passphrase`; all nodes of a "
        "cluster have the same one.",
    )
    nodes: list[Annotated[str, Field(pattern=r"^[a-z0-9_-]+@[A-Za-z0-9._-]+$")]] = Field(
        ["rabbit@localhost"], min_length=1, description="The names of all nodes of the cluster, as rabbit@mq-1."
    )
    amqp_port: int = Field(5672, ge=1, le=65_535, description="Port of the node's AMQP listener, which is on loopback.")


class BrokerSettings(Section):
    """The MQTT broker, as devices are told of it, and the server's own connection to it."""

    kind: Literal["mosquitto", "rabbitmq"] = Field(
        "mosquitto",
        description='What it is: "mosquitto" with our gate, or "rabbitmq", a cluster, which needs `control`, '
        "`deny_file` and `[broker.rabbitmq]`; the control certificate is not used there. For MQTT 3.1.1, and so not "
        "for our agents (docs/broker.md).",
    )
    host: DnsName = Field(description="DNS name of the broker, as in its certificate.")
    port: Annotated[int, Field(ge=1, le=65_535)] = Field(8883, description="Port of its mutual-TLS listener.")
    control: bool = Field(False, description="Whether this server connects to the broker itself.")
    control_host: str = Field("", description="Where the server finds the broker, if not at `host`.")
    control_port: int = Field(0, ge=0, le=65_535, description="And at which port, if not at `port`.")
    control_replica: str = Field(
        "server",
        pattern="^[a-z0-9-]{1,32}$",
        description="What tells this server's connection from other servers' with the same control certificate.",
    )
    control_certificate: str = Field("", description="PEM file: the control certificate and its CA's.")
    control_key: str = Field("", description="PEM file: the control key.")
    command_certificate: str = Field(
        "",
        description="PEM file: the certificate of the key that signs commands to devices, and its CA's. Empty: this "
        "server commands nothing (docs/campaigns.md).",
    )
    command_key: str = Field("", description="PEM file: the key that signs commands, on P-256.")
    deny_file: str = Field(
        "",
        description="The gate's deny file, where the broker runs on this machine (`birthmark broker config` names it): "
        "what is revoked is off the broker at once. Empty: this server tells no broker, and one whose deny list nobody "
        "renews lets nobody in.",
    )
    deny_certificate: str = Field("", description="PEM file: the certificate that signs the deny file, and its CA's.")
    deny_key: str = Field("", description="PEM file: its key.")
    deny_lease_s: int = Field(
        900,
        ge=60,
        le=7 * DAY_S,
        description="For how long a broker that hears nothing from us lets new connections in; renewed three times as "
        "often. A broker that was cut off for longer could let the revoked in.",
    )
    shards: list[ShardSettings] = Field(
        [],
        description="Several brokers, where one is not enough: a table for each, after the keys above. "
        "Each device belongs to one of them. `host`, `port`, `control_host` and `control_port` are then not used.",
    )
    rabbitmq: RabbitMqSettings = Field(
        RabbitMqSettings.model_validate({}),
        description="The cluster, where `kind` is `rabbitmq`: a table, after the keys above.",
    )

    @model_validator(mode="after")
    def _rabbitmq_is_whole(self) -> Self:
        if self.kind == "rabbitmq":
            if self.shards:
                raise ValueError("want no shards with kind = rabbitmq: its cluster is one broker")
            if self.control and not (self.deny_file and self.rabbitmq.management_password):
                raise ValueError("want deny_file and rabbitmq.management_password with kind = rabbitmq and control")
        return self

    @field_validator("shards")
    @classmethod
    def _names_differ(cls, shards: list[ShardSettings]) -> list[ShardSettings]:
        if len({shard.name for shard in shards}) != len(shards):
            raise ValueError("want a name of its own for each broker")
        if shards and all(shard.drain for shard in shards):
            raise ValueError("want at least one broker that is not drained")
        return shards

    @property
    def every(self) -> tuple[ShardSettings, ...]:
        """All brokers; the only one, called `broker`, where there are no shards."""
        if self.shards:
            return tuple(self.shards)
        only = {"host": self.host, "port": self.port}
        return (
            ShardSettings.model_validate(
                {"name": "broker", **only, "control_host": self.control_host, "control_port": self.control_port}
            ),
        )
