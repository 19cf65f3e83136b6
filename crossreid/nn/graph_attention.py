"""Attention between the images of a batch, along the edges of a graph."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from crossreid.ops.precision import in_float32


class GraphAttention(nn.Module):
    """One layer of graph attention: every node becomes a weighted mean of the transformed nodes it is linked
    to.

    Velickovic et al., arXiv 1710.10903, eq. 1 to 4: h = x W, the score of j for i is LeakyReLU(a1 . h_i + a2
    . h_j) with slope 0.2, softmax over the nodes linked to i, dropout of the weights.

    inputs, outputs: width of the nodes before and after. dropout: probability, while training.
    """

    def __init__(self, inputs: int, outputs: int, dropout: float = 0.0):
        super().__init__()
        self.dropout = dropout
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.score = nn.Parameter(torch.empty(2 * outputs, 1))
        nn.init.xavier_uniform_(self.weight, gain=1.414)
        nn.init.xavier_uniform_(self.score, gain=1.414)

    def forward(self, nodes: torch.Tensor, linked: torch.Tensor) -> torch.Tensor:
        """nodes (N, inputs); linked (N, N) boolean, in every row at least one. Returns (N, outputs)."""
        nodes = nodes @ self.weight
        shares = F.dropout(self.attention(nodes, linked), self.dropout, self.training)
        return shares.to(nodes.dtype) @ nodes

    def attention(self, nodes: torch.Tensor, linked: torch.Tensor) -> torch.Tensor:
        """Weights (N, N) of transformed nodes (N, outputs); each row sums to 1 over the nodes linked to its
        own."""
        return _attention(nodes, self.score, linked)


class IdentityGraph(nn.Module):
    """Images of one identity, of either modality, attend to one another; then they are classified.

    Ye et al., ECCV 2020, arXiv 2007.09314, section 3.3. The graph is built from the labels, so it serves
    training alone.

    width: of the nodes. classes: training identities. heads, head_width: parallel layers before the last one,
        and the width of each; with 0 heads the last layer takes the nodes themselves. dropout: probability,
        of the nodes and of the attention.
    """

    def __init__(self, width: int, classes: int, heads: int = 4, head_width: int = 512, dropout: float = 0.2):
        super().__init__()
        self.dropout = dropout
        self.heads = nn.ModuleList(GraphAttention(width, head_width, dropout) for _ in range(heads))
        self.out = GraphAttention(heads * head_width or width, classes, dropout)

    def forward(self, nodes: torch.Tensor, identities: torch.Tensor) -> torch.Tensor:
        """nodes (N, width), identities (N,). Returns the log of the classes' probabilities (N, C)."""
        linked = identities[:, None] == identities
        nodes = F.dropout(nodes, self.dropout, self.training)
        if len(self.heads):
            nodes = torch.cat([F.elu(head(nodes, linked)) for head in self.heads], dim=1)
            nodes = F.dropout(nodes, self.dropout, self.training)
        logits = F.elu(self.out(nodes, linked))
        return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(1)


@in_float32
def _attention(nodes, score, linked):
    own, other = score.squeeze(1).chunk(2)
    scores = F.leaky_relu((nodes @ own)[:, None] + (nodes @ other)[None, :], 0.2)
    return scores.masked_fill(~linked, float("-inf")).softmax(1)
