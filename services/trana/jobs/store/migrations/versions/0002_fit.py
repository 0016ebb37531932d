"""The verdict on the fit, warnings, the sizes of all splits, and the network as it was built

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Columns with a default are added in place: no table is copied, however many jobs there are.
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("num_validation", sa.BigInteger(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("num_test", sa.BigInteger(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("fit", sa.LargeBinary(), nullable=True))
        batch_op.add_column(sa.Column("fit_label", sa.String(length=16), nullable=True))
        batch_op.add_column(sa.Column("told_fit_label", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("warnings", sa.JSON(), server_default="[]", nullable=False))

    op.create_table(
        "networks",
        sa.Column("job", sa.String(length=63), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_networks_job_jobs")),
        sa.PrimaryKeyConstraint("job", name=op.f("pk_networks")),
    )


def downgrade() -> None:
    op.drop_table("networks")
    # Not in a batch: that would make the table anew, which rows of other tables refer to.
    for column in ("warnings", "told_fit_label", "fit_label", "fit", "num_test", "num_validation"):
        op.drop_column("jobs", column)
