"""Makes small untrained networks of the installed cellpose, version 3 or 4."""

import contextlib
import importlib.metadata
import types

import pytest

MAJOR = int(importlib.metadata.version("cellpose").split(".")[0])
needs_3 = pytest.mark.skipif(MAJOR != 3, reason="needs cellpose 3")
needs_4 = pytest.mark.skipif(MAJOR != 4, reason="needs cellpose 4")


@contextlib.contextmanager
def small():
    """Lets cellpose 4 make a transformer of 2 blocks, 16 numbers wide, within the block.

    Its class takes the encoder from a table of segment_anything, where ViT-L has 24
    blocks of 1024 numbers. The network of version 3 is small anyway.
    """
    with pytest.MonkeyPatch.context() as patch:
        if MAJOR == 4:
            import segment_anything

            patch.setitem(segment_anything.sam_model_registry, "vit_l", _small_sam)
        yield


def _small_sam(checkpoint=None):
    from segment_anything.modeling import ImageEncoderViT

    encoder = ImageEncoderViT(
        img_size=1024,
        depth=2,
        embed_dim=16,
        num_heads=2,
        out_chans=256,
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=(1,),
    )
    return types.SimpleNamespace(image_encoder=encoder)


def make():
    """Makes the network; with version 4 within `small`."""
    import torch

    torch.manual_seed(0)
    if MAJOR == 3:
        from cellpose import resnet_torch

        return resnet_torch.CPnet([2, 32, 64, 128, 256], 3, sz=3)
    from cellpose import models

    return (getattr(models, "CPSAM", None) or models.Transformer)()


def last_bias(network):
    """Returns the bias of the network's last layer; LAST_BIAS is its name in a file."""
    return network.output[2].bias if MAJOR == 3 else network.out.bias


LAST_BIAS = "output.2.bias" if MAJOR == 3 else "out.bias"
