"""Every field there is, once, with its unit and its reason: the field's recipe for ViT-B/16.

Each group holds the keyword arguments of exactly one callable, named in its comment. Other files change values only.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The locked base config."""
    config = ConfigDict()
    config.seed = 0  # of new layers, data order, augmentation and the step's random numbers; 0 or more
    config.reseed = ConfigDict(  # added to `seed` for a stage's batches; the student sees others than its teacher saw
        dict(baseline=0, teacher=0, student=1)
    )
    config.stages = ('teacher', 'student')  # in this order; 'baseline' is the dual encoder without fusion

    config.model = ConfigDict(  # lcr2s_jax.weights.pretrained.load
        dict(
            # folder (Hugging Face, open_clip), hub name, hf://OWNER/NAME/FILE, OpenAI's .pt, a checkpoint of IRRA, RDE,
            # TBPS-CLIP or open_clip, or '' for random
            pretrained='openai/clip-vit-base-patch16',
            architecture='ViT-B/16',  # read where `pretrained` is ''
            activation='',  # 'quick_gelu' or 'gelu', where a bare checkpoint does not tell and the guess is wrong
            heads=0,  # of the image tower, likewise; the text tower's are as wide, or 64
            image_size=(384, 128),  # pixels, height and width; the field's [IRRA]
            context_length=77,  # tokens; a position table of another length is cut or resized, and this is told
            vocab_size=49408,  # read where `pretrained` is ''
            resize='bicubic',  # of position tables; Hugging Face and open_clip resize so, IRRA bilinearly
            # compute; parameters, softmax, normalisation and losses are float32. A tower's 'float32' products are what
            # the device makes of them: TF32 on NVIDIAs, bfloat16 on TPUs, unless JAX_DEFAULT_MATMUL_PRECISION=highest
            dtype='bfloat16',
            kernel='',  # of attention: 'einsum', 'xla', 'cudnn' (NVIDIA, bfloat16), or '' for what the device has
            remat=False,  # recompute activations in the backward pass: less memory, about a third more time
            scan=False,  # one compiled block loops over the layers: compiles faster, and on a GPU runs a third slower
            chunks=1,  # encode a batch's rows in so many parts, each again in the backward pass: the memory of one part
        )
    )
    config.tokenizer = ''  # folder, hub name or bpe_simple_vocab_16e6.txt.gz; '' for what lies beside model.pretrained

    config.data = ConfigDict(  # data.sources.open_source, the last two of data.people.load
        dict(
            dataset='demo',  # or cuhk_pedes, icfg_pedes, rstpreid, orbench, chatpedes, folder
            root='',  # the dataset's folder or the one above; '' for TFDS's folder of manual downloads
            images='',  # folder of the images, as it is or below root; '' for where the dataset has it
            max_pixels=50_000_000,  # width times height; a larger image is skipped
            folder=dict(  # data.table.read; read where dataset is 'folder'
                table='people.csv',  # below root: image, caption, id and perhaps split; .csv, .jsonl or .json
                fields=dict(image='', caption='', id='', split=''),  # what they are called; several captions: 'a,b'
                seed=0,  # of dealing identities to splits, where the table has none
                val=0.1,  # share of the identities
                test=0.2,  # the same
            ),
            demo=dict(  # data.demo.synthetic.records; read where dataset is 'demo'
                seed=0,
                people=dict(train=2000, val=100, test=250),
                cameras=True,  # seen by six surveillance cameras; False: clear photographs
            ),
            cache='',  # where built datasets are kept; '' for TFDS's own (~/tensorflow_datasets)
            in_memory=False,  # hold all encoded images of a split, and do not read those of each batch from the cache
        )
    )
    config.batch = ConfigDict(  # data.plan.Plan: P identities x K views are the N rows of the global batch
        dict(
            identities=16,
            views=4,  # 64 rows [IRRA]; K = 4 is ours
            captions=1,  # slots that an image takes, each with another of its captions; divides views
        )
    )
    config.augment = ConfigDict(  # data.transforms.augment  [IRRA]
        dict(flip=0.5, pad=10, erase=0.5)  # probability; pixels at 384 x 128; probability
    )
    config.masking = ConfigDict(  # data.transforms.mask_tokens: share of the tokens, and what becomes of them  [IRRA]
        dict(prob=0.15, mask_share=0.8, replace_share=0.1, delete_share=0.0)
    )

    config.baseline = ConfigDict(  # lcr2s_jax.method.stages.baseline_stage
        dict(
            align='sdm',  # or infonce, tal
            identity_weight=1.0,
            scale=50.0,  # [IRRA], as the two above
            image_weight=0.0,  # of images of one identity attracting each other, for enriched galleries; ours
        )
    )
    config.teacher = ConfigDict(  # lcr2s_jax.method.stages.teacher_stage
        dict(
            align='sdm',
            identity_weight=1.0,
            scale=50.0,
            heads=8,  # of the fusion's attention
            shared_fusion=False,  # one MHAF for images and texts, instead of one each
            single_weight=1.0,  # of the losses on single views, beside those on enriched ones
            detach=True,  # ours; see the docstring of teacher_stage
            support_dropout=0.0,  # probability that a support is hidden in a step
            wrong_supports=0.0,  # share of the supports that is of another identity, for enriched galleries; ours
            same_image_texts=False,  # may a text be supported by its own image's other caption? (batch.captions > 1)
        )
    )
    config.student = ConfigDict(  # lcr2s_jax.method.stages.student_stage
        dict(
            align='sdm',
            identity_weight=1.0,
            scale=50.0,
            feature_weight=1.0,  # of the distance to the teacher's features
            relation_weight=1.0,  # of the distance to its image-by-text relations
            relation='cosine',  # or 'kl': of the softmax of the relations
            from_teacher=False,  # the paper starts the student from the pretrained encoders
            cache_teacher=False,  # its towers' features of unaugmented images and captions, once, not in every step
            support_views=0,  # supports are those of the batch; K, with cache_teacher: K - 1 others of all of the split
            target='fusion',  # what is richer: MHAF (paper), or the plain 'mean' of the set, or of the 'others' alone
            target_share=1.0,  # of it in the target; 0: the teacher's own single view
            gate=0.0,  # power of cos(own view, richer one) that the share is multiplied by; 0: no gate
            fade='',  # both weights above fall to 0 ('out') or rise from it ('in') over fade_steps steps
            fade_steps=0,  # such as train.steps
        )
    )

    config.crossed = ConfigDict(  # lcr2s_jax.method.stages.taught_stage, after the stages 'fold_0', 'fold_1', ...; ours
        dict(align='sdm', identity_weight=1.0, scale=50.0, feature_weight=3.0, relation_weight=0.0)
    )
    # the same after the stages 'member_0', 'member_1', ...; without features, it is told the mean of the members'
    # image-by-text cosines; weight: docs/evidence.md
    config.ensemble = ConfigDict(config.crossed.to_dict() | dict(feature_weight=0.0, relation_weight=100.0))

    config.optim = ConfigDict(  # lcr2s_jax.training.optim.adam
        dict(
            learning_rate=1e-5,  # [IRRA]; not tuned for float32 weights and eps 1e-8, which are ours
            warmup=1 / 12,  # share of the steps: 5 of 60 epochs [IRRA]
            warmup_start=0.1,  # share of the learning rate [IRRA]
            b1=0.9,
            b2=0.999,
            eps=1e-8,
            clip_norm=1.0,  # global gradient norm; ours
            # (regex, learning-rate multiplier, weight decay): the first that finds a path wins  [IRRA]. Our decay is
            # decoupled, a weight loses rate * decay of itself a step, next to nothing here; theirs is Adam's L2 term
            rules=(
                ('logit_scale|/(mean|var)$', 0.0, 0.0),  # no loss reads it; a ResNet's stored statistics are no weights
                ('(head|fusion)/.*bias', 5.0, 0.0),
                ('head|fusion', 5.0, 4e-5),  # new layers
                ('bias', 2.0, 0.0),
                ('.*', 1.0, 4e-5),
            ),
        )
    )
    config.members = ConfigDict(  # lcr2s_jax.training.optim.freeze, of the stages 'member_0', 'member_1', ...; ours
        dict(
            # regex of the parameters that they do not train, such as '/block_[0-8]/': teachers that are simpler than
            # their student, which taught it best on the testbed (docs/evidence.md)
            frozen='',
        )
    )
    config.train = ConfigDict(  # lcr2s_jax.training.train.fit; of each stage, the datasets' files have their own steps
        dict(steps=31_000, eval_every=500, save_every=500, log_every=20)
    )
    config.evaluate = ConfigDict(  # batches of data.pipeline.gallery_batches and query_batches
        dict(batch_size=128)  # rows of the global batch
    )
    config.parallel = ConfigDict(  # lcr2s_jax.training.parallel.Parallel; may change when a run is resumed
        dict(
            driver='jit',  # or 'pmap'
            devices=0,  # 0 for all
            fsdp=False,  # spread parameters and optimiser state over the devices: for models too large for one
        )
    )
    return config.lock()
